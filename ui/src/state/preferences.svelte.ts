// The window's own preferences: kept by the bridge, applied to the document here (theme, text size, motion, language).
import { commands, events } from '../bridge/commands';
import type { Preferences, PreferencesPatch } from '../bridge/types';
import { directionOf, speakLanguage } from '../text/language.svelte';

const initial: Preferences = {
  theme: 'system',
  language: null,
  favourites: [],
  recents: [],
  notifications: true,
  autostart: false,
  start_hidden: false,
  close_to_tray: true,
  graph_window_s: 60,
  first_run_done: false,
  reduce_motion: false,
  text_scale_pct: 100
};

class PreferencesState {
  current = $state.raw<Preferences>(initial);
  /** The bridge has said what they are; before that they are defaults. */
  loaded = $state(false);

  async start(): Promise<() => void> {
    const stop = await events.preferences((preferences) => this.#take(preferences));
    try {
      this.#take(await commands.preferences());
    } catch {
      // Without the file nothing is known; a first run that may have been is not asked for again.
      this.#take({ ...initial, first_run_done: true });
    }
    return stop;
  }

  /** Changes the named preferences; what the bridge refuses is not shown as changed. */
  async change(patch: PreferencesPatch): Promise<void> {
    this.#take(await commands.changePreferences(patch));
  }

  #take(preferences: Preferences): void {
    this.current = preferences;
    this.loaded = true;
    const root = document.documentElement;
    const locale = speakLanguage(preferences.language ?? null);
    root.lang = locale;
    root.dir = directionOf(locale);
    root.dataset.theme = preferences.theme;
    root.dataset.motion = preferences.reduce_motion ? 'reduced' : 'system';
    root.style.fontSize = `${preferences.text_scale_pct}%`;
  }
}

export const preferences = new PreferencesState();
