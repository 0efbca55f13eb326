// Words for the helper's checks. What this version of the window has no words for is said in the helper's English.
import type { Check, CheckResult, Ladder, LogLine, VerifyReport } from '../../bridge/types';
import { lookup } from '../../text/codes';
import { m } from '../../text/messages';

/** More checks than any helper sends; a list beyond that is cut, so that a broken one cannot hang the window. */
export const MOST_CHECKS = 300;

export interface Said {
  text: string;
  /** The helper's English, to be marked as such. */
  english: boolean;
}

/** The message of that key with these values; nothing when one of its values is missing. */
function say(key: string, values: Record<string, string>): string | undefined {
  let missed = false;
  const noted = new Proxy(values, {
    get(target, name) {
      if (typeof name === 'string' && Object.hasOwn(target, name)) return target[name];
      missed = true;
      return '';
    }
  });
  const text = lookup(key, noted);
  return missed ? undefined : text;
}

const knownShape = /^[a-z0-9_]{1,64}$/;

/** What is checked: the words of the longest part of the id that has some (`probe_ipv4_v4_eth0` has those of `probe`). */
export function checkTitle(check: Check): Said {
  const values = check.values ?? {};
  const parts = knownShape.test(check.id.toLowerCase()) ? check.id.toLowerCase().split('_') : [];
  for (let length = parts.length; length > 0; length -= 1) {
    const text = say(`codes_check_${parts.slice(0, length).join('_')}`, values);
    if (text) return { text, english: false };
  }
  return { text: check.title, english: true };
}

/** Why it is so. */
export function checkReason(check: Check): Said {
  const code = check.code ?? '';
  const text = knownShape.test(code) ? say(`codes_checkreason_${code}`, check.values ?? {}) : undefined;
  return text ? { text, english: false } : { text: check.reason, english: true };
}

export type Verdict = 'pass' | 'fail' | 'unknown' | 'nothing';

/** The self-test as a whole. Only checks that passed make a pass; what is unknown counts as not protected. */
export function verdictOf(report: VerifyReport): Verdict {
  const has = (result: CheckResult) => report.checks.some((check) => check.result === result);
  if (has('fail')) return 'fail';
  if (has('unknown') || (report.checks.length > 0 && !report.ok)) return 'unknown';
  return has('pass') ? 'pass' : 'nothing';
}

/** How many checks ended each way, without those that none did. */
export function tally(checks: Check[]): { result: CheckResult; count: number }[] {
  const order: CheckResult[] = ['fail', 'unknown', 'pass', 'skipped'];
  return order
    .map((result) => ({ result, count: checks.filter((check) => check.result === result).length }))
    .filter((entry) => entry.count > 0);
}

/** The word for a result. */
export function resultWord(result: CheckResult): string {
  return {
    pass: m.diagnostics_result_pass,
    fail: m.diagnostics_result_fail,
    skipped: m.diagnostics_result_skipped,
    unknown: m.diagnostics_result_unknown
  }[result]();
}

const rungs = {
  link: { title: m.diagnostics_rung_link, todo: m.diagnostics_todo_link, view: null },
  dns: { title: m.diagnostics_rung_dns, todo: m.diagnostics_todo_dns, view: 'settings' },
  api: { title: m.diagnostics_rung_api, todo: m.diagnostics_todo_api, view: null },
  handshake: { title: m.diagnostics_rung_handshake, todo: m.diagnostics_todo_handshake, view: 'servers' },
  traffic: { title: m.diagnostics_rung_traffic, todo: m.diagnostics_todo_traffic, view: 'servers' }
} as const;

const rungOf = (id: string) => (Object.hasOwn(rungs, id) ? rungs[id as keyof typeof rungs] : null);

/** A step of the connection. */
export function rungTitle(check: Check): Said {
  const rung = rungOf(check.id);
  return rung ? { text: rung.title(), english: false } : checkTitle(check);
}

/** What to do when it fails, and where. */
export function rungTodo(check: Check): { text: string; view: 'settings' | 'servers' | null } {
  const rung = rungOf(check.id);
  return rung ? { text: rung.todo(), view: rung.view } : { text: m.diagnostics_todo_other(), view: null };
}

/** The step to repair: the first that failed, or else the first about which nothing is known; -1 when all is well. */
export function firstBroken(ladder: Ladder): number {
  const failed = ladder.steps.findIndex((step) => step.result === 'fail');
  return failed >= 0 ? failed : ladder.steps.findIndex((step) => step.result === 'unknown');
}

export const levels = ['debug', 'info', 'warn', 'error'] as const;
export type Level = (typeof levels)[number];

/** The lines at least that bad which contain the text. A level of a newer helper is always shown. */
export function filteredLines(lines: LogLine[], from: Level, containing: string): LogLine[] {
  const least = levels.indexOf(from);
  const wanted = containing.trim().toLocaleLowerCase();
  return lines.filter((line) => {
    const level = (levels as readonly string[]).indexOf(line.level);
    if (level >= 0 && level < least) return false;
    return !wanted || `${line.target} ${line.message}`.toLocaleLowerCase().includes(wanted);
  });
}
