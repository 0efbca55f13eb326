// The imported profiles, as the helper lists them.
import { commands, problemOf } from '../../bridge/commands';
import type { Problem, ProfileEntry, ProfileList } from '../../bridge/types';

class Profiles {
  /** Null until the helper has answered. */
  list = $state.raw<readonly ProfileEntry[] | null>(null);
  problem = $state.raw<Problem | null>(null);

  async load(): Promise<void> {
    try {
      this.take(await commands.profiles());
    } catch (error) {
      this.problem = problemOf(error);
    }
  }

  take(answer: ProfileList): void {
    this.list = answer.profiles;
    this.problem = null;
  }

  reset(): void {
    this.list = null;
    this.problem = null;
  }
}

export const profiles = new Profiles();
