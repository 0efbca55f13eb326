// A question to the helper and its newest answer: an answer that was overtaken by a later question is dropped.
import { problemOf } from '../../bridge/commands';
import type { Problem } from '../../bridge/types';

export class Asked<T> {
  value = $state.raw<T | null>(null);
  problem = $state.raw<Problem | null>(null);
  busy = $state(false);
  #turn = 0;

  /** Asks; true when this question's answer was taken. The answer before stays until another one is there. */
  async ask(question: () => Promise<T>): Promise<boolean> {
    const turn = ++this.#turn;
    this.busy = true;
    try {
      const value = await question();
      if (turn !== this.#turn) return false;
      this.value = value;
      this.problem = null;
      return true;
    } catch (error) {
      if (turn === this.#turn) this.problem = problemOf(error);
      return false;
    } finally {
      if (turn === this.#turn) this.busy = false;
    }
  }

  /** Takes a value that came with another answer; a question that is under way is overtaken. */
  take(value: T | null): void {
    this.#turn += 1;
    this.value = value;
    this.problem = null;
    this.busy = false;
  }
}
