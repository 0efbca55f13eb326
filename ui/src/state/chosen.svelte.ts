// Where "Connect" goes: the helper's setting `destination`, read again whenever the helper may have changed it.
import { commands } from '../bridge/commands';
import type { Destination, Link } from '../bridge/types';

const kinds = ['best', 'country', 'city', 'server', 'profile'];

function asDestination(value: unknown): Destination | null {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined;
  return typeof kind === 'string' && kinds.includes(kind) ? (value as Destination) : null;
}

class Chosen {
  /** Null until the helper has said it. */
  destination = $state.raw<Destination | null>(null);
  #asked = 0;
  #state: string | null = null;

  /** Follows the link: a tunnel that ended, or a helper that came back, is a reason to ask. */
  follow(link: Link): void {
    const state = link.status?.state ?? null;
    if (state !== this.#state && (state === 'disconnected' || (state && this.#state === null))) void this.refresh();
    this.#state = state;
  }

  async refresh(): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    try {
      const view = await commands.settings();
      if (mine === this.#asked)
        this.destination = asDestination(view.settings.find((entry) => entry.key === 'destination')?.value);
    } catch {
      // Without an answer the button names no place, and the helper uses its own.
      if (mine === this.#asked) this.destination = null;
    }
  }

  reset(): void {
    this.#asked += 1;
    this.#state = null;
    this.destination = null;
  }
}

export const chosen = new Chosen();
