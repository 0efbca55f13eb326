// The newest word of the bridge about the helper. Subscribes first and takes the snapshot second; an older number never
// replaces a newer one, in whatever order they arrive.
import { commands, events, problemOf } from '../bridge/commands';
import type { Link } from '../bridge/types';

const waiting: Link = {
  seq: 0,
  state: 'connecting',
  problem: null,
  status: null,
  public: null,
  versions: null,
  since_unix_ms: 0
};

class LinkState {
  current = $state.raw<Link>(waiting);

  /** Takes a link if it is newer than the one shown. */
  take(link: Link): void {
    if (link.seq > this.current.seq) this.current = link;
  }

  /** Starts listening; the returned function ends it. */
  async start(): Promise<() => void> {
    const stop = await events.link((link) => this.take(link));
    try {
      this.take(await commands.link());
    } catch (error) {
      this.current = { ...waiting, state: 'unreachable', problem: problemOf(error) };
    }
    return stop;
  }

  /** For tests: forgets everything. */
  reset(): void {
    this.current = waiting;
  }
}

export const link = new LinkState();
