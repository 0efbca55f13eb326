// Short notes at the edge of the window. Good news leaves by itself; a problem stays until it is closed.
import type { Problem } from '../bridge/types';

export interface Toast {
  id: number;
  text: string;
  problem: Problem | null;
}

const most = 3;
const stay_ms = 6000;

class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  #last = 0;

  /** Says that something is done. */
  say(text: string): void {
    const id = this.#add(text, null);
    setTimeout(() => this.close(id), stay_ms);
  }

  /** Says that something failed. */
  fail(problem: Problem): void {
    // The same problem twice is one note.
    if (this.list.some((toast) => toast.problem?.code === problem.code && toast.problem.detail === problem.detail))
      return;
    this.#add('', problem);
  }

  close(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  clear(): void {
    this.list = [];
  }

  #add(text: string, problem: Problem | null): number {
    this.#last += 1;
    this.list = [...this.list, { id: this.#last, text, problem }].slice(-most);
    return this.#last;
  }
}

export const toasts = new Toasts();
