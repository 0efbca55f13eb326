// The window's words for the helper's stable codes. A code that this version does not know falls back to the helper's words.
import type { Problem } from '../bridge/types';
import * as messages from '../paraglide/messages/_index';

type Message = (values?: Record<string, string>) => string;

/** The message of that key, when there is one. Keys are built from codes, so the compiler cannot check them; a test does. */
export function lookup(key: string, values: Record<string, string> = {}): string | undefined {
  const message = (messages as unknown as Record<string, Message | undefined>)[key];
  return message?.(values);
}

/** What happened. */
export function problemTitle(problem: Problem): string {
  return lookup(`codes_problem_${problem.code}`) ?? problem.title;
}

/** What to do. */
export function problemAction(problem: Problem): string {
  return lookup(`codes_action_${problem.code}`) ?? problem.action;
}
