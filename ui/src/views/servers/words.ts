// The words of the Servers view for what the provider says in codes.
import { lookup } from '../../text/codes';
import { count } from '../../text/format';
import { language } from '../../text/language.svelte';
import { m } from '../../text/messages';
import type { PlaceNode } from './places';

const counts = new Map<string, string>();

/** "12 servers". Kept, because each row of a list asks for one and the rules of a language's plurals are slow to make. */
export function serversWord(servers: number): string {
  const key = `${language()} ${servers}`;
  let words = counts.get(key);
  if (words === undefined) {
    if (counts.size >= 1000) counts.clear();
    words = m.servers_servers({ count: servers, shown: count(servers) });
    counts.set(key, words);
  }
  return words;
}

/** A feature in words; the provider's own word when this version does not know it. */
export function featureWord(feature: string): string {
  return lookup(`servers_feature_${feature.toLowerCase()}`) ?? feature;
}

/** A protocol's own name. */
export function protocolWord(protocol: string): string {
  const names: Record<string, string> = { wireguard: 'WireGuard', openvpn: 'OpenVPN' };
  return names[protocol] ?? protocol;
}

/** A server's state in words. */
export function stateWord(state: string): string {
  return lookup(`servers_state_${state}`) ?? state;
}

/** Why a place cannot be used; empty when it can. */
export function reasonOf(node: PlaceNode): string {
  if (node.usable) return '';
  if (node.kind === 'gone') return m.servers_reason_gone();
  if (node.kind === 'country' || node.kind === 'city') return m.servers_reason_no_server();
  return lookup(`servers_reason_${node.state}`) ?? m.servers_reason_offline();
}

export type LoadLevel = 'low' | 'medium' | 'high';

export function loadLevel(load: number): LoadLevel {
  if (load < 50) return 'low';
  return load < 80 ? 'medium' : 'high';
}

export function loadWord(load: number): string {
  return { low: m.servers_load_low, medium: m.servers_load_medium, high: m.servers_load_high }[loadLevel(load)]();
}
