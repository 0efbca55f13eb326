// What the window says for every state of the link and of the helper.
import { describe, expect, it } from 'vitest';
import type { BlockReason } from '../../src/bridge/types';
import { screenOf, type Action, type ScreenKind, type Tone } from '../../src/state/screen';
import { reasons } from '../../src/shell/words';
import { bannersOf } from '../../src/shell/banners';
import { blockedFor, connected, links, linkWith, statusWith, tunnel } from '../fixtures/links';
import { linkOf } from './bridge';

const table: [fixture: string, kind: ScreenKind, tone: Tone, isProtected: boolean | null, first: Action | undefined][] =
  [
    ['loading', 'loading', 'unknown', null, undefined],
    ['unreachable', 'unreachable', 'unknown', null, 'retry'],
    ['untrusted', 'untrusted', 'danger', null, 'retry'],
    ['not_allowed', 'not_allowed', 'unknown', true, 'retry'],
    ['incompatible', 'incompatible', 'unknown', true, 'show_versions'],
    ['signed_out', 'signed_out', 'open', false, 'sign_in'],
    ['disconnected', 'disconnected', 'open', false, 'connect'],
    ['locked', 'locked', 'closed', true, 'connect'],
    ['connecting', 'connecting', 'wait', true, 'cancel'],
    ['reconnecting', 'reconnecting', 'wait', true, 'cancel'],
    ['connected', 'connected', 'safe', true, 'disconnect'],
    ['degraded', 'degraded', 'wait', true, 'disconnect'],
    ['provisional', 'connected', 'safe', true, 'disconnect'],
    ['managed', 'connected', 'safe', true, 'disconnect'],
    ['disconnecting', 'disconnecting', 'wait', true, undefined],
    ['blocked', 'blocked', 'closed', true, 'choose_place'],
    ['offline', 'offline', 'closed', true, 'disconnect'],
    ['not_protected', 'not_protected', 'danger', false, 'choose_place'],
    ['no_provider', 'disconnected', 'open', false, 'choose_place']
  ];

describe('screenOf', () => {
  it('has a row for every fixture', () => {
    expect(table.map(([name]) => name)).toEqual(Object.keys(links));
  });

  it.each(table)('%s', (fixture, kind, tone, isProtected, first) => {
    const screen = screenOf(linkOf(fixture));
    expect([screen.kind, screen.tone, screen.protected, screen.actions[0]]).toEqual([kind, tone, isProtected, first]);
  });

  const first: Record<BlockReason, Action> = {
    offline: 'disconnect',
    no_provider: 'choose_place',
    api_unreachable: 'reconnect',
    logged_out: 'sign_in',
    credentials_rejected: 'sign_in',
    account_expired: 'sign_in',
    too_many_devices: 'manage_devices',
    device_revoked: 'sign_in',
    no_server: 'choose_place',
    no_profile: 'choose_place',
    gateway_silent: 'choose_place',
    tunnel_device: 'diagnose',
    cannot_protect: 'diagnose',
    intent_unreadable: 'connect',
    clock_wrong: 'reconnect',
    internal: 'reconnect'
  };

  it.each(reasons)('blocked for %s: one first action, and always the way back to an open network', (reason) => {
    for (const isProtected of [true, false]) {
      const screen = screenOf(blockedFor(reason, false, isProtected));
      expect(screen.reason).toBe(reason);
      expect(screen.actions[0]).toBe(first[reason]);
      expect(screen.actions).toContain('disconnect');
      expect(screen.kind).toBe(!isProtected ? 'not_protected' : reason === 'offline' ? 'offline' : 'blocked');
    }
  });

  it('never calls a state safe in which the helper does not say protected', () => {
    const open = { ...connected, protected: false };
    expect(screenOf(linkWith(open)).kind).toBe('not_protected');
    expect(screenOf(linkWith({ ...open, tunnel: { ...tunnel, stalled: true } })).tone).toBe('danger');
    const lockdown = statusWith({ protected: false, protection: { ...statusWith().protection, enforcing: true } });
    expect(screenOf(linkWith(lockdown)).kind).toBe('not_protected');
    const failing = statusWith({
      state: 'connecting',
      protection: { ...statusWith().protection, enforcing: true, error: 'nft: no' }
    });
    expect(screenOf(linkWith(failing)).kind).toBe('not_protected');
  });

  it('connects with a profile of one’s own without account and provider', () => {
    const profile = { kind: 'profile' as const, name: 'home' };
    expect(screenOf(linkOf('no_provider'), profile).actions).toEqual(['connect']);
    expect(screenOf(linkOf('signed_out'), profile).kind).toBe('disconnected');
  });

  it('notes what is worth knowing', () => {
    const v4only = { ...connected, tunnel: { ...tunnel, addresses: ['10.64.0.7/32'] } };
    expect(screenOf(linkWith(v4only)).notes).toContain('no_ipv6');
    expect(screenOf(linkOf('provisional')).notes).toContain('provisional');
    expect(screenOf(linkOf('managed')).managedBy).toBe('Harbour Works AB');
  });
});

describe('bannersOf', () => {
  const kinds = (fixture: string, view: 'connect' | 'servers' | 'settings') =>
    bannersOf(screenOf(linkOf(fixture)), view).map((banner) => banner.kind);

  it('is loud in every view when protection is lost, and in no other case of the helper’s', () => {
    for (const view of ['connect', 'servers', 'settings'] as const) {
      expect(kinds('not_protected', view)).toContain('not_protected');
      for (const name of Object.keys(links)) {
        const loud = bannersOf(screenOf(linkOf(name)), view).filter((banner) => banner.loud);
        expect(loud.length > 0).toBe(name === 'not_protected' || name === 'untrusted');
      }
    }
  });

  it('says what holds where the view does not say it itself', () => {
    expect(kinds('unreachable', 'servers')).toEqual(['unreachable']);
    expect(kinds('unreachable', 'connect')).toEqual([]);
    expect(kinds('blocked', 'servers')).toEqual(['kill_switch']);
    expect(kinds('blocked', 'connect')).toEqual([]);
    expect(kinds('managed', 'servers')).toEqual(['managed']);
    expect(kinds('managed', 'settings')).toEqual([]);
    expect(kinds('provisional', 'connect')).toEqual(['provisional']);
    expect(kinds('disconnected', 'servers')).toEqual([]);
  });
});
