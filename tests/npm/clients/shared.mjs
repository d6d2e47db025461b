// What the clients of several libraries need.
export const RETRY_MS = 100;
export const cursorOf = (data) => Object.values(data ?? {})[0]?.cursor;
export const first = async (results) => (await results.next()).value;

/** What has no connection to keep begins again by itself where its stream is cut. */
export const again = (subscribe) => (document, variables, sink) => {
  const own = { ...variables };
  const begin = () =>
    subscribe(document, { ...own }, {
      next: (result) => {
        const cursor = cursorOf(result.data);
        if (cursor && "after" in own) own.after = cursor;
        sink.next(result);
      },
      cut: () => setTimeout(begin, RETRY_MS),
      complete: sink.complete,
    });
  begin();
};
