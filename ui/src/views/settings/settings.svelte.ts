// The helper's settings as the view shows them. A change shows at once and goes back when the helper refuses it.
import { commands, problemOf } from '../../bridge/commands';
import type { Problem, SettingEntry, SettingKey, SettingsPatch, SettingsView } from '../../bridge/types';
import { chosen } from '../../state/chosen.svelte';
import { patchOf } from './values';

class SettingsState {
  /** Null until the helper has answered. */
  view = $state.raw<SettingsView | null>(null);
  problem = $state.raw<Problem | null>(null);
  loading = $state(false);
  /** Asked for and not answered yet. */
  pending = $state.raw<ReadonlyMap<SettingKey, unknown>>(new Map());
  /** Why the last change of a setting was refused. */
  refused = $state.raw<ReadonlyMap<SettingKey, Problem>>(new Map());
  /** The last thing that was saved, and how often something was: the same word twice must be said twice. */
  saved = $state.raw<{ key: string; count: number }>({ key: '', count: 0 });
  #asked = 0;

  entry(key: SettingKey): SettingEntry | undefined {
    return this.view?.settings.find((candidate) => candidate.key === key);
  }

  /** What the control shows. */
  value(key: SettingKey): unknown {
    return this.pending.has(key) ? this.pending.get(key) : this.entry(key)?.value;
  }

  get locked(): SettingEntry[] {
    return this.view?.settings.filter((candidate) => candidate.locked) ?? [];
  }

  async load(): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    this.loading = true;
    try {
      const view = await commands.settings();
      if (mine === this.#asked) this.take(view);
    } catch (error) {
      if (mine === this.#asked) this.problem = problemOf(error);
    } finally {
      if (mine === this.#asked) this.loading = false;
    }
  }

  take(view: SettingsView): void {
    this.#asked += 1;
    this.view = view;
    this.problem = null;
    this.loading = false;
    const destination = view.settings.find((entry) => entry.key === 'destination');
    if (destination && chosen.destination !== null) void chosen.refresh();
  }

  /** Changes one setting. True when the helper took it. */
  async change(key: SettingKey, value: unknown): Promise<boolean> {
    const entry = this.entry(key);
    // One question per setting at a time: the answer to the first could otherwise undo the second.
    if (!entry || entry.locked || this.pending.has(key)) return false;
    this.pending = new Map(this.pending).set(key, value);
    this.#forget(key);
    try {
      this.take(await commands.changeSettings(patchOf(key, value)));
      this.said(key);
      return true;
    } catch (error) {
      this.refused = new Map(this.refused).set(key, problemOf(error));
      return false;
    } finally {
      const pending = new Map(this.pending);
      pending.delete(key);
      this.pending = pending;
    }
  }

  /** Changes several settings in one question; what goes wrong is the caller's to show. */
  async apply(patch: SettingsPatch): Promise<void> {
    this.take(await commands.changeSettings(patch));
    this.refused = new Map();
  }

  async resetAll(): Promise<void> {
    this.take(await commands.resetSettings({ keys: null }));
    this.refused = new Map();
  }

  said(key: string): void {
    this.saved = { key, count: this.saved.count + 1 };
  }

  reset(): void {
    this.#asked += 1;
    this.view = null;
    this.problem = null;
    this.loading = false;
    this.pending = new Map();
    this.refused = new Map();
    this.saved = { key: '', count: 0 };
  }

  #forget(key: SettingKey): void {
    const refused = new Map(this.refused);
    refused.delete(key);
    this.refused = refused;
  }
}

export const settings = new SettingsState();
