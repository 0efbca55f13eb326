// What the user asked for and the helper has not answered yet. It changes the look of a button, never the state word.
import { commands, problemOf } from '../bridge/commands';
import type { Destination, Problem } from '../bridge/types';
import { link } from './link.svelte';
import { route } from './route.svelte';
import { toasts } from './toasts.svelte';
import type { Action } from './screen';

export type Intent = 'connect' | 'cancel' | 'disconnect' | 'reconnect' | 'restore_network' | 'retry';

class Intents {
  /** What is being asked; null when the helper has answered. */
  pending = $state<Intent | null>(null);
  /** Where to, for `connect`: the button of that place shows it. */
  place = $state.raw<Destination | null>(null);
  /** Why the last one was refused; null after a good one. */
  problem = $state.raw<Problem | null>(null);

  connect(destination: Destination | null): Promise<void> {
    return this.#ask('connect', destination, () => commands.connect({ destination, if_needed: false }));
  }

  disconnect(): Promise<void> {
    return this.#ask('disconnect', null, () => commands.disconnect());
  }

  /** Gives up an attempt: the same command, another word. */
  cancel(): Promise<void> {
    return this.#ask('cancel', null, () => commands.disconnect());
  }

  reconnect(): Promise<void> {
    return this.#ask('reconnect', null, () => commands.reconnect());
  }

  restoreNetwork(): Promise<void> {
    return this.#ask('restore_network', null, () => commands.restoreNetwork());
  }

  /** Asks the bridge for its newest word; it tries to reach the helper by itself as well. */
  retry(): Promise<void> {
    return this.#ask('retry', null, async () => link.take(await commands.link()));
  }

  /** Forgets the refusal: the state has changed since. */
  forgive(): void {
    this.problem = null;
  }

  /** Does what a screen's button says. */
  act(action: Action, destination: Destination | null): void {
    switch (action) {
      case 'connect':
        return void this.connect(destination);
      case 'cancel':
        return void this.cancel();
      case 'disconnect':
        return void this.disconnect();
      case 'reconnect':
        return void this.reconnect();
      case 'restore_network':
        return void this.restoreNetwork();
      case 'retry':
        return void this.retry();
      case 'sign_in':
      case 'manage_devices':
        return route.go('account');
      case 'choose_place':
        return route.go('servers');
      case 'open_settings':
        return route.go('settings');
      case 'show_versions':
        return route.go('about');
      case 'diagnose':
        return route.go('diagnostics');
    }
  }

  reset(): void {
    this.pending = null;
    this.place = null;
    this.problem = null;
  }

  async #ask(intent: Intent, place: Destination | null, command: () => Promise<unknown>): Promise<void> {
    // A second click while the first is on its way changes nothing, except that giving up always gets through.
    if (this.pending !== null && !(intent === 'cancel' || intent === 'disconnect')) return;
    this.pending = intent;
    this.place = place;
    this.problem = null;
    try {
      await command();
    } catch (error) {
      this.problem = problemOf(error);
      if (route.view !== 'connect') toasts.fail(this.problem);
    } finally {
      if (this.pending === intent) {
        this.pending = null;
        this.place = null;
      }
    }
  }
}

export const intents = new Intents();
