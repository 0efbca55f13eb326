// Words for checks: known codes, unknown ones, missing values, and names that every object has.
import { describe, expect, it, vi } from 'vitest';
import {
  checkReason,
  checkTitle,
  filteredLines,
  firstBroken,
  rungTitle,
  rungTodo,
  tally,
  verdictOf
} from '../../src/views/diagnostics/checks';
import { check } from './account.kit';

// Three messages that the shipped texts need not have, in the shape of compiled ones.
vi.mock('../../src/text/codes', () => {
  const texts: Record<string, (values: Record<string, string>) => string> = {
    codes_check_probe: () => 'Nothing leaves',
    codes_check_probe_v4: (values) => `Nothing leaves through ${values.interface}`,
    codes_checkreason_left: (values) => `A packet to ${values.target} left`
  };
  return { lookup: (key: string, values: Record<string, string> = {}) => texts[key]?.(values) };
});

describe('words of checks', () => {
  it('takes the longest part of the id that has words', () => {
    expect(checkTitle(check('probe_v4_eth0', 'pass', { values: { interface: 'eth0' } }))).toEqual({
      text: 'Nothing leaves through eth0',
      english: false
    });
    expect(checkTitle(check('probe_dns_eth0', 'pass')).text).toBe('Nothing leaves');
  });

  it('never says a sentence with a hole', () => {
    expect(checkTitle(check('probe_v4_eth0', 'pass', { values: {} })).text).toBe('Nothing leaves');
    expect(checkReason(check('x', 'fail', { code: 'left' }))).toEqual({ text: 'Reason of x.', english: true });
    expect(checkReason(check('x', 'fail', { code: 'left', values: { target: '<b>' } })).text).toBe(
      'A packet to <b> left'
    );
  });

  it.each(['', '__proto__', 'constructor', 'a b', '../x', 'ü', 'x'.repeat(100)])(
    'falls back to the helper’s English for %j',
    (id) => {
      expect(checkTitle(check(id, 'pass'))).toEqual({ text: `Title of ${id}`, english: true });
      expect(checkReason(check(id, 'pass', { code: id }))).toEqual({ text: `Reason of ${id}.`, english: true });
    }
  );

  it('knows steps by their own names only', () => {
    expect(rungTitle(check('link', 'pass')).english).toBe(false);
    expect(rungTitle(check('constructor', 'pass')).text).toBe('Title of constructor');
    expect(rungTodo(check('__proto__', 'fail')).view).toBeNull();
  });

  it('copes with a helper that sends no values', () => {
    const old = { id: 'x', title: 't', result: 'pass', reason: 'r' } as ReturnType<typeof check>;
    expect([checkTitle(old).text, checkReason(old).text]).toEqual(['t', 'r']);
  });
});

describe('judgements', () => {
  it('count and judge', () => {
    const checks = [check('a', 'pass'), check('b', 'skipped'), check('c', 'pass')];
    expect(tally(checks)).toEqual([
      { result: 'pass', count: 2 },
      { result: 'skipped', count: 1 }
    ]);
    expect(verdictOf({ ok: true, checks })).toBe('pass');
    expect(verdictOf({ ok: true, checks: [check('a', 'fail')] })).toBe('fail');
    expect(verdictOf({ ok: true, checks: [] })).toBe('nothing');
  });

  it('find the step to repair', () => {
    const steps = (...results: ('pass' | 'fail' | 'unknown' | 'skipped')[]) => ({
      steps: results.map((result) => check('x', result))
    });
    expect(firstBroken(steps('pass', 'skipped'))).toBe(-1);
    expect(firstBroken(steps('pass', 'unknown', 'fail'))).toBe(2);
    expect(firstBroken(steps('pass', 'unknown', 'skipped'))).toBe(1);
  });

  it('filter lines', () => {
    const lines = ['debug', 'info', 'warn', 'error', 'trace'].map((level) => ({
      at_unix_s: 0,
      level,
      target: 'T',
      message: 'M'
    }));
    expect(filteredLines(lines, 'error', '').map((line) => line.level)).toEqual(['error', 'trace']);
    expect(filteredLines(lines, 'debug', ' t m ')).toHaveLength(5);
  });
});
