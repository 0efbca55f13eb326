// The pure decisions of the account view.
import { describe, expect, it } from 'vitest';
import {
  daysLeft,
  loginRequest,
  places,
  signOutEffect,
  visibleName,
  withoutSpaces
} from '../../src/views/account/words';
import { statusWith } from '../fixtures/links';
import { account, device, devices } from './account.kit';

describe('words of the account', () => {
  it('strips every kind of space', () => {
    expect(withoutSpaces(' 12\u00a034\u2009\t56\n\u200b78\ufeff')).toBe('12345678');
  });

  it('sends only what was typed', () => {
    expect(loginRequest(' \u200b', 'x', '')).toBeNull();
    expect(loginRequest('1 2', '', ' ')).toEqual({ account: '12' });
    expect(loginRequest('me', ' p w ', '1 2')).toEqual({ account: 'me', password: ' p w ', otp: '12' });
  });

  it('counts days, rounded up', () => {
    const now = Date.parse('2026-01-10T12:00:00Z');
    expect(daysLeft('2026-01-10T12:00:01Z', now)).toBe(1);
    expect(daysLeft('2026-01-11T12:00:00Z', now)).toBe(1);
    expect(daysLeft('2026-01-09T12:00:00Z', now)).toBe(-1);
    expect([daysLeft('soon', now), daysLeft(null, now), daysLeft(undefined, now)]).toEqual([null, null, null]);
  });

  it('counts places only against a limit', () => {
    const list = devices(device('a'));
    expect(places(list, null)).toEqual({ used: 1, limit: 5 });
    expect(places({ ...list, limit: null }, account({ device_limit: 3 }))).toEqual({ used: 1, limit: 3 });
    expect(places({ ...list, limit: 0 }, null)).toBeNull();
    expect(places({ ...list, limit: null }, null)).toBeNull();
    expect(places(null, account())).toBeNull();
  });

  it('knows what signing out does', () => {
    const connected = { want: 'connected' as const, destination: { kind: 'best' as const } };
    const always = { ...statusWith().protection, kill_switch: 'always' as const };
    expect(signOutEffect(statusWith())).toBe('idle_open');
    expect(signOutEffect(statusWith({ protection: always }))).toBe('idle_locked');
    expect(signOutEffect(statusWith({ target: connected }))).toBe('ends_open');
    expect(signOutEffect(statusWith({ target: connected, protection: always }))).toBe('ends_locked');
  });

  it('finds names that show nothing', () => {
    expect(visibleName('\u200b \u2060')).toBeNull();
    expect(visibleName(' a ')).toBe(' a ');
  });
});
