// Diagnostics: self-test, ladder, log, rules, report and versions, each loading, empty, refused and full.
import { fireEvent, render, screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { tick } from 'svelte';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CheckResult, LogLine, PolicyView, VerifyReport } from '../../src/bridge/types';
import { link } from '../../src/state/link.svelte';
import { route } from '../../src/state/route.svelte';
import Diagnostics from '../../src/views/diagnostics/Diagnostics.svelte';
import { hostile } from '../fixtures/hostile';
import { links } from '../fixtures/links';
import {
  type Answers,
  bridge,
  check,
  expectAccessible,
  expectInert,
  later,
  problem,
  refuse,
  start
} from './account.kit';

const versions = { window: '0.1.0', tauri: '2.12.5', webview: '2.50.6', helper: { helper: '0.1.0', api: 1 } };
const line = (n: number, changes: Partial<LogLine> = {}): LogLine => ({
  at_unix_s: 1_790_000_000 + n,
  level: 'info',
  target: 'hamn_helper',
  message: `line ${n}`,
  ...changes
});
const policy = (changes: Partial<PolicyView> = {}): PolicyView =>
  ({
    words: ['All goes through hamn0.', 'Outside:', '  DHCP is allowed.'],
    native: 'table inet hamn {}',
    policy: { mode: 'enforce', api: [], endpoints: [], lan: [] },
    generation: 3,
    in_force: true,
    error: null,
    ...changes
  }) as PolicyView;
const answers = (more: Answers = {}): Answers => ({ versions: () => versions, ...more });
const open = async (tab: string) => userEvent.setup().click(screen.getByTestId(`tab-${tab}`));

beforeEach(() => start(links.connected!()));
afterEach(() => vi.useRealTimers());

describe('tabs', () => {
  it('follow the arrow keys, in the direction of the language', async () => {
    const user = userEvent.setup();
    bridge(answers({ diagnose: () => ({ steps: [] }), log: () => ({ lines: [] }), policy: () => policy() }));
    const { container } = render(Diagnostics);
    const selected = () => screen.getByRole('tab', { selected: true }).textContent;
    await user.click(screen.getByTestId('tab-test'));
    await user.keyboard('{ArrowRight}');
    expect(selected()).toBe('Connection');
    expect(document.activeElement).toBe(screen.getByRole('tab', { selected: true }));
    await user.keyboard('{ArrowLeft}{ArrowLeft}');
    expect(selected()).toBe('Report');
    await user.keyboard('{Home}');
    expect(selected()).toBe('Self-test');
    await user.keyboard('{End}');
    expect(selected()).toBe('Report');
    expect(screen.getAllByRole('tabpanel')).toHaveLength(1);
    container.style.direction = 'rtl';
    screen.getByRole('tablist').style.direction = 'rtl';
    await user.keyboard('{ArrowRight}');
    expect(selected()).toBe('Rules');
    await user.keyboard('{Alt>}{ArrowRight}{/Alt}');
    expect(selected()).toBe('Rules');
  });
});

describe('self-test', () => {
  const run = async (report: VerifyReport) => {
    const { answers: given } = bridge(answers({ verify: () => report }));
    const rendered = render(Diagnostics);
    expect(screen.getByText(/No self-test has run/)).toBeTruthy();
    await userEvent.setup().click(screen.getByTestId('verify-run'));
    await screen.findByTestId('verify-verdict');
    return { ...rendered, given };
  };

  it.each([
    ['pass', 'Passed'],
    ['fail', 'Failed'],
    ['skipped', 'Skipped'],
    ['unknown', 'Unknown']
  ] as [CheckResult, string][])(
    'shows a check that ended %s with sign, word, title and reason',
    async (result, word) => {
      const { container } = await run({ ok: result === 'pass', checks: [check('resolver', result)] });
      const row = screen.getByTestId('verify-result');
      expect(row.dataset.result).toBe(result);
      expect(within(row).getByText(word)).toBeTruthy();
      expect(row.querySelector('svg')).toBeTruthy();
      expect(row.textContent).toContain('Reason of resolver.');
      expect(within(row).getByText('Reason of resolver.').lang).toBe('en');
      await expectAccessible(container);
    }
  );

  it.each([
    [['pass', 'skipped'], 'pass', /Nothing got past/],
    [['pass', 'fail', 'unknown'], 'fail', /not protected/],
    [['pass', 'unknown'], 'unknown', /Not everything/],
    [['skipped'], 'nothing', /Nothing was tested/],
    [[], 'nothing', /Nothing was tested/]
  ] as [CheckResult[], string, RegExp][])('judges %s as %s', async (results, verdict, words) => {
    const ok = !results.some((result) => result === 'fail' || result === 'unknown');
    await run({ ok, checks: results.map((result, n) => check(`x${n}`, result)) });
    expect(screen.getByTestId('verify-verdict').dataset.verdict).toBe(verdict);
    expect(screen.getByRole('status').textContent).toMatch(words);
  });

  it('never judges better than the helper', async () => {
    await run({ ok: false, checks: [check('resolver', 'pass')] });
    expect(screen.getByTestId('verify-verdict').dataset.verdict).toBe('unknown');
  });

  it('shows that it is running, runs once, and tells the end', async () => {
    const user = userEvent.setup();
    const answer = later<VerifyReport>();
    const { of } = bridge(answers({ verify: () => answer.promise }));
    const { container } = render(Diagnostics);
    await user.click(screen.getByTestId('verify-run'));
    expect(screen.getByRole('progressbar')).toBeTruthy();
    expect(screen.getByRole('status').textContent).toBe('Testing…');
    await expectAccessible(container);
    await user.click(screen.getByTestId('verify-run'));
    expect(of('verify')).toHaveLength(1);
    // Another tab in between loses nothing.
    await open('report');
    answer.resolve({ ok: true, checks: [check('state', 'pass')] });
    await open('test');
    expect((await screen.findByTestId('verify-verdict')).dataset.verdict).toBe('pass');
    expect(screen.queryByRole('progressbar')).toBeNull();
  });

  it('says why it could not run, and not the result before', async () => {
    const { given, container } = await run({ ok: true, checks: [check('state', 'pass')] });
    given.verify = refuse('busy');
    await userEvent.setup().click(screen.getByTestId('verify-run'));
    expect(await screen.findByRole('alert')).toBeTruthy();
    expect(screen.queryByTestId('verify-verdict')).toBeNull();
    await expectAccessible(container);
  });

  it('shows a thousand hostile checks as text, and no more than it can', async () => {
    const user = userEvent.setup();
    const { answers: given } = bridge(answers());
    const { container } = render(Diagnostics);
    for (let at = 0; at < hostile.length; at += 250) {
      const texts = hostile.slice(at, at + 250);
      given.verify = () => ({
        ok: false,
        checks: texts.map((text) =>
          check(text, 'unknown', { title: text, reason: text, code: text, values: { [text]: text } })
        )
      });
      await user.click(screen.getByTestId('verify-run'));
      await waitFor(() => expect(screen.getAllByTestId('verify-result')[0]?.textContent).toContain(texts[0]));
      const rows = screen.getAllByTestId('verify-result');
      expect(rows).toHaveLength(250);
      rows.forEach((row, n) => expect(row.textContent).toContain(texts[n]));
      expectInert(container);
    }
    given.verify = () => ({ ok: true, checks: Array.from({ length: 4000 }, (_, n) => check(`c${n}`, 'pass')) });
    await user.click(screen.getByTestId('verify-run'));
    await waitFor(() => expect(screen.getAllByTestId('verify-result')).toHaveLength(300));
  }, 60_000);
});

describe('ladder', () => {
  const ids = ['link', 'dns', 'api', 'handshake', 'traffic'];
  const climb = async (results: CheckResult[]) => {
    const user = userEvent.setup();
    bridge(answers({ diagnose: () => ({ steps: results.map((result, n) => check(ids[n] ?? `step${n}`, result)) }) }));
    const rendered = render(Diagnostics);
    await open('ladder');
    await user.click(screen.getByTestId('diagnose-run'));
    await waitFor(() => expect(screen.getByRole('status').textContent).not.toBe(''));
    return rendered;
  };

  it('says that every step works', async () => {
    const { container } = await climb(['pass', 'pass', 'pass', 'pass', 'pass']);
    expect(screen.getByRole('status').textContent).toContain('Every step that applies works');
    expect(screen.queryByTestId('ladder-todo')).toBeNull();
    await expectAccessible(container);
  });

  it.each(ids.map((id, n) => [id, n] as const))('says what to do when %s fails, and only there', async (_, n) => {
    const { container } = await climb(ids.map((_, k) => (k < n ? 'pass' : k === n ? 'fail' : 'skipped')));
    const steps = screen.getAllByTestId('ladder-step');
    expect(steps).toHaveLength(5);
    expect(within(steps[n]!).getByTestId('ladder-todo').textContent!.length).toBeGreaterThan(40);
    expect(screen.getAllByTestId('ladder-todo')).toHaveLength(1);
    expect(screen.getByRole('status').textContent).toContain('It stops here');
    await expectAccessible(container);
  });

  it('leads to another place when the VPN server fails', async () => {
    await climb(['pass', 'pass', 'pass', 'fail', 'skipped']);
    await userEvent.setup().click(screen.getByRole('button', { name: 'Choose a place' }));
    expect(route.view).toBe('servers');
  });

  it('takes a failure before it for the broken step, even after something unknown', async () => {
    await climb(['pass', 'unknown', 'fail', 'skipped', 'skipped']);
    expect(within(screen.getAllByTestId('ladder-step')[2]!).getByTestId('ladder-todo')).toBeTruthy();
  });

  it('copes with steps of a newer helper, with none, and with a refusal', async () => {
    const user = userEvent.setup();
    const { answers: given } = bridge(answers({ diagnose: () => ({ steps: [check('toString', 'fail')] }) }));
    render(Diagnostics);
    await open('ladder');
    expect(screen.getByText(/Nothing has been looked at/)).toBeTruthy();
    await user.click(screen.getByTestId('diagnose-run'));
    expect((await screen.findByTestId('ladder-step')).textContent).toContain('Title of toString');
    expect(screen.getByTestId('ladder-todo').textContent).toContain('report');
    given.diagnose = () => ({ steps: [] });
    await user.click(screen.getByTestId('diagnose-run'));
    expect(await screen.findByText('The helper named no steps.')).toBeTruthy();
    given.diagnose = refuse('busy');
    await user.click(screen.getByTestId('diagnose-run'));
    expect(await screen.findByRole('alert')).toBeTruthy();
  });
});

describe('log', () => {
  const shown = () => screen.queryAllByTestId('log-line').map((row) => row.textContent);

  it('asks for 500 lines and filters them by level and text', async () => {
    const user = userEvent.setup();
    const lines = [
      line(1, { level: 'debug', message: 'small' }),
      line(2),
      line(3, { level: 'warn', message: 'Careful' }),
      line(4, { level: 'error', message: 'broken' }),
      line(5, { level: 'fatal', message: 'of a newer helper' })
    ];
    const { of } = bridge(answers({ log: () => ({ lines }) }));
    const { container } = render(Diagnostics);
    await open('log');
    await screen.findAllByTestId('log-line');
    expect(of('log')[0]).toEqual({ lines: 500 });
    expect(shown()).toHaveLength(5);
    await user.selectOptions(screen.getByTestId('log-level'), 'warn');
    expect(shown()).toHaveLength(3);
    expect(shown()[0]).toContain('Warning');
    await user.type(screen.getByTestId('log-filter'), 'CAREFUL');
    expect(shown()).toHaveLength(1);
    await user.type(screen.getByTestId('log-filter'), ' nowhere');
    expect(screen.getByText('No line fits these filters.')).toBeTruthy();
    await expectAccessible(container);
    await user.click(screen.getByRole('button', { name: 'Show every line' }));
    expect(shown()).toHaveLength(5);
    const log = screen.getByRole('log');
    expect(log.getAttribute('aria-live')).toBe('off');
    expect(log.tabIndex).toBe(0);
    await expectAccessible(container);
  });

  it('asks again every two seconds while it is looked at and follows, and else never', async () => {
    vi.useFakeTimers();
    let n = 0;
    const { of } = bridge(answers({ log: () => ({ lines: [line((n += 1))] }) }));
    const { unmount } = render(Diagnostics);
    expect(of('log')).toHaveLength(0);
    await fireEvent.click(screen.getByTestId('tab-log'));
    await vi.advanceTimersByTimeAsync(10);
    expect(of('log')).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(2000);
    expect(of('log')).toHaveLength(2);
    await fireEvent.click(screen.getByTestId('log-follow'));
    await vi.advanceTimersByTimeAsync(10_000);
    const still = of('log').length;
    expect(still).toBe(2);
    await fireEvent.click(screen.getByRole('button', { name: 'Refresh' }));
    await vi.advanceTimersByTimeAsync(10);
    expect(of('log')).toHaveLength(3);
    await fireEvent.click(screen.getByTestId('log-follow'));
    await vi.advanceTimersByTimeAsync(10);
    expect(of('log')).toHaveLength(4);
    const hidden = vi.spyOn(document, 'hidden', 'get').mockReturnValue(true);
    await fireEvent(document, new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(of('log')).toHaveLength(4);
    hidden.mockReturnValue(false);
    await fireEvent(document, new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(10);
    expect(of('log')).toHaveLength(5);
    await fireEvent.click(screen.getByTestId('tab-test'));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(of('log')).toHaveLength(5);
    unmount();
    hidden.mockRestore();
  });

  it('stops following when the user scrolls back', async () => {
    bridge(answers({ log: () => ({ lines: [line(1)] }) }));
    render(Diagnostics);
    await open('log');
    const box = await screen.findByRole('log');
    Object.defineProperties(box, {
      scrollHeight: { value: 1000 },
      clientHeight: { value: 200 },
      scrollTop: { value: 100, writable: true }
    });
    await fireEvent.scroll(box);
    expect(screen.getByTestId<HTMLInputElement>('log-follow').checked).toBe(false);
  });

  it('is loading, empty, or refused in words', async () => {
    const user = userEvent.setup();
    const first = later<{ lines: LogLine[] }>();
    const { answers: given } = bridge(answers({ log: () => first.promise }));
    const { container } = render(Diagnostics);
    await open('log');
    expect(screen.getByText('Reading the log…')).toBeTruthy();
    first.reject(problem('not_allowed'));
    expect(await screen.findByRole('alert')).toBeTruthy();
    await expectAccessible(container);
    given.log = () => ({ lines: [] });
    await user.click(screen.getByRole('button', { name: 'Try again' }));
    expect(await screen.findByText('The log is empty.')).toBeTruthy();
  });

  it('shows a thousand hostile lines as text and at most 500 at a time', async () => {
    const { answers: given } = bridge(answers());
    for (const part of [hostile.slice(0, 500), hostile.slice(500)]) {
      given.log = () => ({
        lines: part.map((text) => line(0, { level: text, target: text, message: text, at_unix_s: 1e300 }))
      });
      const { container, unmount } = render(Diagnostics);
      await open('log');
      const rows = await screen.findAllByTestId('log-line');
      expect(rows).toHaveLength(500);
      rows.forEach((row, n) => expect(row.querySelectorAll('bdi')[2]?.textContent).toBe(part[n]));
      expectInert(container);
      unmount();
    }
    given.log = () => ({
      lines: Array.from({ length: 3000 }, (_, n) => line(n, { message: 'x'.repeat(n === 2999 ? 100_000 : 5) }))
    });
    render(Diagnostics);
    await open('log');
    expect(await screen.findAllByTestId('log-line')).toHaveLength(500);
    expect(screen.getAllByTestId('log-line').at(-1)!.textContent!.length).toBeLessThan(5000);
  }, 60_000);
});

describe('rules', () => {
  it.each([
    ['in force', policy(), 'Applied and read back'],
    ['not in force', policy({ in_force: false, error: 'nft: <b>busy</b>' }), 'Not in force'],
    ['open', policy({ policy: { mode: 'open' }, words: ['No protection.'], native: '' }), 'No protection is wanted']
  ])('says that they are %s', async (_, view, words) => {
    bridge(answers({ policy: () => view }));
    const { container } = render(Diagnostics);
    await open('rules');
    expect((await screen.findByTestId('rules-state')).textContent).toContain(words);
    if (view.error) expect(screen.getByText(view.error)).toBeTruthy();
    expectInert(container);
    await expectAccessible(container);
  });

  it('keeps the native text behind a disclosure', async () => {
    bridge(answers({ policy: () => policy({ native: hostile.join('\n'), words: hostile.slice(0, 200) }) }));
    const { container } = render(Diagnostics);
    await open('rules');
    await screen.findByTestId('rules-state');
    const details = container.querySelector('details')!;
    expect(details.open).toBe(false);
    expect(details.querySelector('pre')!.textContent).toBe(hostile.join('\n'));
    expectInert(container);
  });

  it('is empty or refused in words', async () => {
    const user = userEvent.setup();
    const { answers: given } = bridge(answers({ policy: refuse('not_allowed') }));
    render(Diagnostics);
    await open('rules');
    expect(await screen.findByRole('alert')).toBeTruthy();
    given.policy = () => policy({ words: [], native: '' });
    await user.click(screen.getByRole('button', { name: 'Try again' }));
    expect(await screen.findByText('There is no rule of Hamn.')).toBeTruthy();
  });
});

describe('report', () => {
  const text = `state: connected\n${hostile.slice(0, 20).join('\n')}`;
  const path = '/home/<b>user</b>/Downloads/hamn-report.txt';
  let write: ReturnType<typeof vi.fn>;

  beforeEach(() => {
    write = vi.fn(() => Promise.resolve());
  });

  const make = async (more: Answers = {}) => {
    const user = userEvent.setup();
    Object.defineProperty(navigator, 'clipboard', { value: { writeText: write }, configurable: true });
    const given = bridge(answers({ report: () => ({ text }), save_report: () => ({ path }), ...more }));
    const rendered = render(Diagnostics);
    await user.click(screen.getByTestId('tab-report'));
    expect(screen.queryByTestId('report-save')).toBeNull();
    await user.click(screen.getByTestId('report-make'));
    return { ...given, ...rendered, user };
  };

  it('is shown in full before anything is saved or copied, and what is saved is what is shown', async () => {
    const { of, user, container } = await make();
    expect((await screen.findByTestId('report-text')).textContent).toBe(text);
    expect(of('save_report')).toEqual([]);
    expect(write).not.toHaveBeenCalled();
    await expectAccessible(container);
    await user.click(screen.getByTestId('report-save'));
    expect((await screen.findByTestId('report-path')).textContent).toBe(path);
    expect(of('save_report')).toEqual([{ text }]);
    expectInert(container);
    await expectAccessible(container);
  });

  it('copies on request, and selects the text where it may not', async () => {
    const { user } = await make();
    await user.click(await screen.findByTestId('report-copy'));
    expect(write).toHaveBeenCalledWith(text);
    expect(await screen.findByText('Copied.')).toBeTruthy();
    write.mockImplementation(() => Promise.reject(new Error('denied')));
    await user.click(screen.getByTestId('report-copy'));
    expect(await screen.findByText(/press Ctrl\+C/)).toBeTruthy();
    expect(window.getSelection()!.toString()).toBe(text);
    expect(document.activeElement).toBe(screen.getByTestId('report-text'));
    Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true });
    await user.click(screen.getByTestId('report-copy'));
    expect(await screen.findByText(/press Ctrl\+C/)).toBeTruthy();
  });

  it('says why it could not be made or saved, and when it is empty', async () => {
    const { user, answers: given } = await make({ save_report: refuse('internal'), report: refuse('not_allowed') });
    expect(await screen.findByRole('alert')).toBeTruthy();
    given.report = () => ({ text: ' ' });
    await user.click(screen.getByTestId('report-make'));
    expect(await screen.findByText(/empty report/)).toBeTruthy();
    given.report = () => ({ text });
    await user.click(screen.getByTestId('report-make'));
    await user.click(await screen.findByTestId('report-save'));
    expect(await screen.findByRole('alert')).toBeTruthy();
    expect(screen.queryByTestId('report-path')).toBeNull();
  });
});

describe('versions and link', () => {
  it('says when window and helper differ, and when the helper is away', async () => {
    const { answers: given } = bridge({ versions: () => ({ ...versions, helper: { helper: '0.0.9', api: 1 } }) });
    const { unmount } = render(Diagnostics);
    expect(await screen.findByText(/different versions/)).toBeTruthy();
    unmount();
    given.versions = () => ({ ...versions, helper: null, webview: null });
    render(Diagnostics);
    expect(await screen.findByText('Not reachable')).toBeTruthy();
    expect(screen.getByText('Unknown')).toBeTruthy();
  });

  it.each(['unreachable', 'untrusted', 'not_allowed', 'incompatible'])(
    'says %s, keeps the versions, and comes back by itself',
    async (name) => {
      start(links[name]!());
      bridge(answers());
      const { container } = render(Diagnostics);
      expect(screen.getByRole('alert')).toBeTruthy();
      expect(screen.queryByRole('tab')).toBeNull();
      await screen.findByTestId('versions');
      await expectAccessible(container);
      link.take(links.connected!());
      await tick();
      expect(screen.getByTestId('verify-run')).toBeTruthy();
    }
  );

  it('works where nobody is signed in', async () => {
    start(links.signed_out!());
    bridge(answers());
    render(Diagnostics);
    expect(screen.getByTestId('verify-run')).toBeTruthy();
  });
});
