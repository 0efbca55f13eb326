// What the window knows about account and devices. It outlives the view, so that opening the view again shows the answer
// before while it asks anew. It holds no secret.
import { commands } from '../../bridge/commands';
import type { AccountInfo, DeviceList } from '../../bridge/types';
import { Asked } from './asked.svelte';

class Session {
  readonly account = new Asked<AccountInfo>();
  readonly devices = new Asked<DeviceList>();
  /** What an answer said about being signed in, until the link says the same. */
  told = $state<boolean | null>(null);
  /** Words for screen readers about what was just done. */
  said = $state('');

  /** Asks for account and devices. */
  load(): void {
    void this.account.ask(commands.account).then((taken) => {
      if (taken && this.account.value && !this.account.value.logged_in) this.told = false;
    });
    this.loadDevices();
  }

  loadDevices(): void {
    void this.devices.ask(commands.devices);
  }

  /** Nobody is signed in, or nobody can say. */
  forget(): void {
    this.account.take(null);
    this.devices.take(null);
  }

  /** For tests: as at the start. */
  reset(): void {
    this.forget();
    this.told = null;
    this.said = '';
  }
}

export const session = new Session();
