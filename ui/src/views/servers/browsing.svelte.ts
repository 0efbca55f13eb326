// What the user looks at in the Servers view. It outlives the view, so that coming back finds the list as it was left.
import type { Destination } from '../../bridge/types';
import { intents } from '../../state/intents.svelte';
import { preferences } from '../../state/preferences.svelte';
import { route } from '../../state/route.svelte';
import { keyOf, type PlaceNode, type Sort } from './places';

export const tabs = ['all', 'favourites', 'recents', 'profiles'] as const;
export type Tab = (typeof tabs)[number];

class Browsing {
  tab = $state<Tab>('all');
  query = $state('');
  sort = $state<Sort>('name');
  onlineOnly = $state(false);
  features = $state.raw<readonly string[]>([]);
  /** What the user opened, by key. */
  opened = $state.raw<ReadonlySet<string>>(new Set());
  /** What the user opened or closed against what the search would do; forgotten with the next search. */
  againstSearch = $state.raw<ReadonlyMap<string, boolean>>(new Map());

  readonly searching = $derived(this.query.trim() !== '');
  readonly filters = $derived({ onlineOnly: this.onlineOnly, features: this.features });
  readonly filterCount = $derived((this.onlineOnly ? 1 : 0) + this.features.length);

  readonly favourites = $derived(new Set(preferences.current.favourites.map(keyOf)));

  look(query: string): void {
    this.query = query;
    if (this.againstSearch.size > 0) this.againstSearch = new Map();
  }

  toggleFeature(feature: string): void {
    const has = this.features.includes(feature);
    this.features = has ? this.features.filter((other) => other !== feature) : [...this.features, feature];
  }

  clearFilters(): void {
    this.onlineOnly = false;
    this.features = [];
  }

  isOpen(key: string, openedBySearch: ReadonlySet<string>): boolean {
    if (!this.searching) return this.opened.has(key);
    return this.againstSearch.get(key) ?? openedBySearch.has(key);
  }

  setOpen(keys: readonly string[], open: boolean): void {
    if (!this.searching) {
      const opened = new Set(this.opened);
      for (const key of keys) {
        if (open) opened.add(key);
        else opened.delete(key);
      }
      this.opened = opened;
    } else {
      const against = new Map(this.againstSearch);
      for (const key of keys) against.set(key, open);
      this.againstSearch = against;
    }
  }

  async toggleFavourite(destination: Destination): Promise<void> {
    const key = keyOf(destination);
    const others = preferences.current.favourites.filter((favourite) => keyOf(favourite) !== key);
    const had = others.length < preferences.current.favourites.length;
    await preferences.change({ favourites: had ? others : [...others, destination] });
  }

  /** Connects and shows how it goes; a place that takes nobody is not asked for. */
  connect(node: Pick<PlaceNode, 'destination' | 'usable'>): void {
    if (!node.usable) return;
    void intents.connect(node.destination);
    route.go('connect');
  }

  reset(): void {
    this.tab = 'all';
    this.look('');
    this.sort = 'name';
    this.clearFilters();
    this.opened = new Set();
  }
}

export const browsing = new Browsing();
