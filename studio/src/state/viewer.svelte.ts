/** The viewer's credits and limits, live. */
import { follow } from "../api/client";
import { ViewerUpdated, type ViewerData } from "../api/documents";

class ViewerState {
  data = $state.raw<ViewerData | null>(null);

  /** Follow them; returns how to stop. */
  follow(): () => void {
    return follow(ViewerUpdated, {}, { onData: ({ viewerUpdated }) => (this.data = viewerUpdated) });
  }
}

export const viewer = new ViewerState();
