// The clients of npm, unmodified, behind two functions each: `query(document)`, which resolves with
// the result, and `subscribe(document, variables, sink)`, which may be cut and resumes by itself.
// `clients/` has a file for each library, since one takes longer to load than all the others.

const codes = (errors) => errors.map(({ extensions }) => extensions.code);

/** What is printed of a result: its codes, or what `shown` makes of its data. */
export const read = ({ data, errors }, shown) =>
  errors?.length ? ["errors", codes(errors)] : ["next", shown(data)];

/** The client of this name, which begins with that of its library. */
export const openClient = async (name, url, token) => {
  const { clients } = await import(`./clients/${name.split(" ")[0]}.mjs`);
  return clients[name](url, token);
};
