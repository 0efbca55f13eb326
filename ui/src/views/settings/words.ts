// Settings and their values in words, for the view, the banner of locked ones and the difference of an import.
import type { Destination, Dns, NetworkPolicy, SettingKey } from '../../bridge/types';
import { listing } from '../../state/listing.svelte';
import { count, country } from '../../text/format';
import { language, languages } from '../../text/language.svelte';
import { m } from '../../text/messages';
import type { AddressFault } from './addresses';
import { isDestination, isDns, type PreferenceKey } from './values';

const names: Record<SettingKey | PreferenceKey, () => string> = {
  auto_connect: m.settings_auto_connect,
  destination: m.settings_destination,
  ipv6: m.settings_ipv6,
  mtu: m.settings_mtu,
  key_rotation_days: m.settings_rotation,
  kill_switch: m.settings_kill_switch,
  allow_lan: m.settings_lan,
  dns: m.settings_dns,
  theme: m.settings_theme,
  language: m.settings_language,
  text_scale_pct: m.settings_text_size,
  reduce_motion: m.settings_motion,
  notifications: m.settings_notifications,
  autostart: m.settings_autostart,
  start_hidden: m.settings_start_hidden,
  close_to_tray: m.settings_close_to_tray,
  graph_window_s: m.settings_graph,
  favourites: m.settings_favourites
};

/** A setting's name; the key itself for one that this version does not know. */
export function settingName(key: string): string {
  return names[key as SettingKey]?.() ?? key;
}

/** Several things in one sentence, as the language joins them. */
export function joined(parts: readonly string[]): string {
  return new Intl.ListFormat(language(), { type: 'conjunction' }).format(parts);
}

/** A destination for people, with the names of the server list when it has them. */
export function destinationWords(destination: Destination): string {
  switch (destination.kind) {
    case 'best':
      return m.settings_place_best();
    case 'country':
      return country(destination.country, listing.country(destination.country)?.name);
    case 'city': {
      const known = listing.city(destination.city);
      return known ? `${known.city.name}, ${country(known.country.country, known.country.name)}` : destination.city;
    }
    case 'server': {
      const known = listing.server(destination.server);
      const server = known ? `${known.server.name}, ${known.city.name}` : destination.server;
      const exit = destination.exit ? known?.server.exits.find((entry) => entry.id === destination.exit) : undefined;
      return exit ? m.settings_place_exit({ server, country: country(exit.country) }) : server;
    }
    case 'profile':
      return m.settings_place_profile({ name: destination.name });
  }
}

function dnsWords(dns: Dns): string {
  return dns.use === 'provider' ? m.settings_dns_provider() : dns.addresses.join(', ');
}

export const killSwitchNames = {
  off: m.settings_kill_off,
  while_connected: m.settings_kill_connected,
  always: m.settings_kill_always
};

export const themeNames = {
  system: m.settings_theme_system,
  light: m.settings_theme_light,
  dark: m.settings_theme_dark
};

export function graphName(seconds: number): string {
  const known: Record<number, () => string> = {
    60: m.settings_graph_minute,
    300: m.settings_graph_minutes,
    3600: m.settings_graph_hour
  };
  return known[seconds]?.() ?? String(seconds);
}

/** A value as the difference shows it. Values of files are checked before they come here. */
export function valueWords(key: SettingKey | PreferenceKey, value: unknown): string {
  if (typeof value === 'boolean') return value ? m.settings_on() : m.settings_off();
  switch (key) {
    case 'kill_switch':
      return killSwitchNames[value as keyof typeof killSwitchNames]?.() ?? String(value);
    case 'theme':
      return themeNames[value as keyof typeof themeNames]?.() ?? String(value);
    case 'mtu':
      return value === null ? m.settings_mtu_auto() : m.settings_mtu_bytes({ bytes: count(Number(value)) });
    case 'dns':
      return isDns(value) ? dnsWords(value) : String(value);
    case 'destination':
      return isDestination(value) ? destinationWords(value) : String(value);
    case 'key_rotation_days':
      return m.settings_days({ count: Number(value) });
    case 'language':
      return value === null
        ? m.settings_language_system()
        : (languages.find((entry) => entry.code === value)?.name ?? String(value));
    case 'text_scale_pct':
      return m.settings_per_cent({ value: count(Number(value)) });
    case 'graph_window_s':
      return graphName(Number(value));
    case 'favourites':
      return m.settings_places({ count: Array.isArray(value) ? value.length : 0 });
    default:
      return String(value);
  }
}

const faults: Record<AddressFault, (inputs: { address: string }) => string> = {
  not_an_address: m.settings_dns_not_an_address,
  loopback: m.settings_dns_loopback,
  unspecified: m.settings_dns_no_host,
  multicast: m.settings_dns_no_host,
  broadcast: m.settings_dns_no_host,
  reserved: m.settings_dns_no_host,
  link_local: m.settings_dns_link_local,
  embedded_v4: m.settings_dns_embedded,
  twice: m.settings_dns_twice,
  too_many: m.settings_dns_too_many,
  none: m.settings_dns_none
};

export function faultWords({ fault, address }: { fault: AddressFault; address: string }): string {
  return faults[fault]({ address: address.slice(0, 60) });
}

/** The rules in the window's words, from the policy as data. */
export function policyWords(policy: NetworkPolicy): string[] {
  if (!('endpoints' in policy)) return [m.settings_rules_open()];
  const words: string[] = [];
  const { tunnel } = policy;
  if (!tunnel) words.push(m.settings_rules_closed());
  else if (tunnel.traffic.use === 'everything') words.push(m.settings_rules_tunnel({ interface: tunnel.interface }));
  else words.push(m.settings_rules_trying({ interface: tunnel.interface }));
  if (tunnel && tunnel.resolvers.length > 0) words.push(m.settings_rules_dns({ addresses: joined(tunnel.resolvers) }));
  if (tunnel && tunnel.lan_resolvers.length > 0) {
    words.push(m.settings_rules_dns_lan({ addresses: joined(tunnel.lan_resolvers) }));
  }
  if (policy.endpoints.length > 0) {
    words.push(m.settings_rules_gateways({ addresses: joined(policy.endpoints.map((endpoint) => endpoint.address)) }));
  }
  if (policy.api.length > 0) {
    words.push(m.settings_rules_api({ addresses: joined(policy.api.map((endpoint) => endpoint.address)) }));
  }
  words.push(
    policy.lan.length > 0 ? m.settings_rules_lan({ networks: joined(policy.lan) }) : m.settings_rules_no_lan()
  );
  words.push(m.settings_rules_always());
  return words;
}
