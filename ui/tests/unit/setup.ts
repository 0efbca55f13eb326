// Every unit test starts from a clean document, clean stores and a clean bridge. What jsdom lacks stands in here.
import { cleanup } from '@testing-library/svelte';
import { clearMocks } from '@tauri-apps/api/mocks';
import { afterEach, vi } from 'vitest';
import { chosen } from '../../src/state/chosen.svelte';
import { intents } from '../../src/state/intents.svelte';
import { link } from '../../src/state/link.svelte';
import { listing } from '../../src/state/listing.svelte';
import { rates } from '../../src/state/rates.svelte';
import { route } from '../../src/state/route.svelte';
import { toasts } from '../../src/state/toasts.svelte';

// jsdom has no canvas to draw a graph on.
vi.mock('uplot', () => ({
  default: class {
    setData(): void {}
    setSize(): void {}
    destroy(): void {}
  }
}));

class NoResizeObserver {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}
// Axe asks for a context to tell icon fonts from words; without one it takes them for words.
HTMLCanvasElement.prototype.getContext = () => null;
globalThis.ResizeObserver ??= NoResizeObserver;
window.matchMedia ??= (query: string) =>
  ({
    matches: false,
    media: query,
    addEventListener: () => undefined,
    removeEventListener: () => undefined
  }) as unknown as MediaQueryList;

afterEach(async () => {
  cleanup();
  // Unlisten calls of unmounted components are still on their way.
  await Promise.resolve();
  await new Promise((resolve) => setTimeout(resolve, 0));
  clearMocks();
  for (const store of [link, listing, chosen, intents, rates]) store.reset();
  toasts.clear();
  route.view = 'connect';
});
