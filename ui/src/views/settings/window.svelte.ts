// Changes of the window's own preferences, with the same manners as the helper's settings: at once, or back with a reason.
import { problemOf } from '../../bridge/commands';
import type { Preferences, Problem } from '../../bridge/types';
import { preferences } from '../../state/preferences.svelte';
import { settings } from './settings.svelte';
import type { PreferenceKey } from './values';

class WindowState {
  pending = $state.raw<ReadonlyMap<PreferenceKey, unknown>>(new Map());
  refused = $state.raw<ReadonlyMap<PreferenceKey, Problem>>(new Map());

  value<K extends PreferenceKey>(key: K): Preferences[K] {
    return (this.pending.has(key) ? this.pending.get(key) : preferences.current[key]) as Preferences[K];
  }

  async change<K extends PreferenceKey>(key: K, value: Preferences[K]): Promise<void> {
    if (this.pending.has(key)) return;
    this.pending = new Map(this.pending).set(key, value);
    const refused = new Map(this.refused);
    refused.delete(key);
    this.refused = refused;
    try {
      await preferences.change({ [key]: value });
      settings.said(key);
    } catch (error) {
      this.refused = new Map(this.refused).set(key, problemOf(error));
    } finally {
      const pending = new Map(this.pending);
      pending.delete(key);
      this.pending = pending;
    }
  }

  reset(): void {
    this.pending = new Map();
    this.refused = new Map();
  }
}

export const windowSettings = new WindowState();
