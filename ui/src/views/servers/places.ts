// The server list as a tree that is ready to be searched, sorted and shown. Pure; built once per list and language.
import type { CityEntry, CountryEntry, Destination, ExitEntry, ServerEntry, ServerListing } from '../../bridge/types';
import { countryNames, haystack, needleOf } from './fold';

export type NodeKind = 'best' | 'country' | 'city' | 'server' | 'exit' | 'profile' | 'gone';

/** A place in the tree. */
export interface PlaceNode {
  /** Unique in a tree. */
  key: string;
  kind: NodeKind;
  destination: Destination;
  /** Name as shown. */
  name: string;
  /** Where it is, for rows that stand without their parents. */
  within: string;
  /** Country code, lower case; empty when it has none. */
  country: string;
  /** Folded words of this node alone. */
  hay: string;
  /** Folded words of all nodes below: one look tells that nothing there can be meant. Of the whole tree, also in what a search leaves. */
  below: string;
  /** What each of its children has in `below`, word for word; empty when they differ. One look tells that all of them are meant. */
  shared: string;
  children: PlaceNode[];
  /** Per cent; for a country or city, the mean of its servers that can be used. */
  load: number | null;
  /** Milliseconds; for a country or city, the shortest. */
  latency: number | null;
  /** The provider's word for a server; `online` for a country or city with a usable server, else that of its first. */
  state: string;
  usable: boolean;
  /** What its servers can do; for a server, what it can do. */
  features: readonly string[];
  /** Servers below, and itself when it is one. */
  servers: number;
  server: ServerEntry | null;
}

/** How a place is told apart from others. */
export function keyOf(destination: Destination): string {
  switch (destination.kind) {
    case 'best':
      return 'best';
    case 'country':
      return `country:${destination.country}`;
    case 'city':
      return `city:${destination.city}`;
    case 'server':
      return destination.exit ? `exit:${destination.server}/${destination.exit}` : `server:${destination.server}`;
    case 'profile':
      return `profile:${destination.name}`;
  }
}

export type NameOfCountry = (code: string, fallback?: string) => string;

interface Words {
  locale: string;
  countryName: NameOfCountry;
}

interface Building extends Words {
  /** Haystacks of exits: thousands of servers can be left in the same few countries. */
  exits: Map<string, string>;
}

function exitHay(exit: ExitEntry, words: Building): string {
  const key = `${exit.country} ${exit.id}`;
  const known = words.exits.get(key);
  if (known !== undefined) return known;
  const hay = haystack([exit.id, ...countryNames(exit.country, words.locale)]);
  words.exits.set(key, hay);
  return hay;
}

function exitNode(server: ServerEntry, exit: ExitEntry, parent: PlaceNode, words: Building): PlaceNode {
  return {
    ...parent,
    key: `exit:${server.id}/${exit.id}`,
    kind: 'exit',
    destination: { kind: 'server', server: server.id, exit: exit.id },
    name: words.countryName(exit.country, exit.country),
    within: `${parent.name}, ${parent.within}`,
    country: exit.country,
    hay: exitHay(exit, words),
    below: '',
    shared: '',
    children: [],
    servers: 0,
    server
  };
}

function serverNode(server: ServerEntry, within: string, country: string, words: Building): PlaceNode {
  const node: PlaceNode = {
    key: `server:${server.id}`,
    kind: 'server',
    destination: { kind: 'server', server: server.id },
    name: server.name || server.id,
    within,
    country,
    hay: haystack(server.name === server.id ? [server.id] : [server.id, server.name]),
    below: '',
    shared: '',
    children: [],
    load: server.load_pct ?? null,
    latency: server.latency_ms ?? null,
    state: server.state,
    usable: server.state === 'online',
    features: server.features,
    servers: 1,
    server
  };
  // One exit is no choice.
  if (server.exits.length > 1) {
    node.children = server.exits.map((exit) => exitNode(server, exit, node, words));
    node.below = hayOf(node.children);
  }
  return node;
}

/** The words of these nodes and of all below them. */
function hayOf(nodes: readonly PlaceNode[]): string {
  return nodes.map((node) => node.hay + node.below).join('');
}

/** The words that stand below each of these servers, or each of these places. */
function sharedBy(nodes: readonly PlaceNode[], words: (node: PlaceNode) => string): string {
  const [first] = nodes;
  const shared = first ? words(first) : '';
  return nodes.every((node) => words(node) === shared) ? shared : '';
}

function summary(
  children: readonly PlaceNode[]
): Pick<PlaceNode, 'load' | 'latency' | 'state' | 'usable' | 'features' | 'servers'> {
  let [sum, loads, servers] = [0, 0, 0];
  let latency: number | null = null;
  const features = new Set<string>();
  for (const child of children) {
    servers += child.servers;
    for (const feature of child.features) features.add(feature);
    if (!child.usable) continue;
    if (child.load !== null) {
      sum += child.load * child.servers;
      loads += child.servers;
    }
    if (child.latency !== null) latency = latency === null ? child.latency : Math.min(latency, child.latency);
  }
  const usable = children.some((child) => child.usable);
  return {
    load: loads > 0 ? Math.round(sum / loads) : null,
    latency,
    state: usable ? 'online' : (children[0]?.state ?? 'offline'),
    usable,
    features: [...features],
    servers
  };
}

function cityNode(city: CityEntry, country: CountryEntry, countryName: string, words: Building): PlaceNode {
  const name = city.name || city.slug;
  const within = [name, countryName].filter(Boolean).join(', ');
  const children = city.servers.map((server) => serverNode(server, within, country.country, words));
  return {
    key: `city:${city.id}`,
    kind: 'city',
    destination: { kind: 'city', city: city.id },
    name,
    within: countryName,
    country: country.country,
    hay: haystack([city.name, city.slug, city.id]),
    below: hayOf(children),
    shared: sharedBy(children, (server) => server.below),
    children,
    ...summary(children),
    server: null
  };
}

function countryNode(country: CountryEntry, words: Building): PlaceNode {
  const name = words.countryName(country.country, country.name);
  const children = country.cities.map((city) => cityNode(city, country, name, words));
  return {
    key: `country:${country.country}`,
    kind: 'country',
    destination: { kind: 'country', country: country.country },
    name,
    within: '',
    country: country.country,
    hay: haystack([country.name, ...countryNames(country.country, words.locale)]),
    below: hayOf(children),
    shared: sharedBy(children, (city) => city.shared),
    children,
    ...summary(children),
    server: null
  };
}

/** The countries of a list. */
export function placesOf(listing: ServerListing, words: Words): PlaceNode[] {
  const building = { ...words, exits: new Map<string, string>() };
  return listing.countries.map((country) => countryNode(country, building));
}

/** A row that stands for itself: the best server, a profile, or a place that the list no longer has. */
export function loneNode(kind: 'best' | 'profile' | 'gone', destination: Destination, name: string): PlaceNode {
  return {
    key: keyOf(destination),
    kind,
    destination,
    name,
    within: '',
    country: '',
    hay: haystack([name]),
    below: '',
    shared: '',
    children: [],
    load: null,
    latency: null,
    state: '',
    usable: kind !== 'gone',
    features: [],
    servers: 0,
    server: null
  };
}

/** Every node by `keyOf`; cities also by slug, because destinations may use either. */
export function placeIndex(countries: readonly PlaceNode[], listing: ServerListing): Map<string, PlaceNode> {
  const index = new Map<string, PlaceNode>();
  const add = (node: PlaceNode) => {
    index.set(node.key, node);
    node.children.forEach(add);
  };
  countries.forEach(add);
  for (const country of listing.countries) {
    for (const city of country.cities) {
      const node = index.get(`city:${city.id}`);
      if (node && !index.has(`city:${city.slug}`)) index.set(`city:${city.slug}`, node);
    }
  }
  return index;
}

export type Sort = 'name' | 'load' | 'latency';

/** The same tree in another order, at every level. Unknown numbers and unusable places come last. */
export function sorted(nodes: readonly PlaceNode[], sort: Sort, locale: string): PlaceNode[] {
  const collator = new Intl.Collator(locale, { numeric: true, sensitivity: 'base' });
  const byName = (a: PlaceNode, b: PlaceNode) => collator.compare(a.name, b.name);
  const number = (value: number | null) => value ?? Number.POSITIVE_INFINITY;
  const compare = (a: PlaceNode, b: PlaceNode): number => {
    if (sort === 'name') return byName(a, b);
    if (a.usable !== b.usable) return a.usable ? -1 : 1;
    const [left, right] = [number(a[sort]), number(b[sort])];
    return left === right ? byName(a, b) : left - right;
  };
  const order = (list: readonly PlaceNode[]): PlaceNode[] =>
    list.map((node) => (node.children.length > 0 ? { ...node, children: order(node.children) } : node)).sort(compare);
  return order(nodes);
}

export interface Filters {
  onlineOnly: boolean;
  features: readonly string[];
}

/** What is left of a tree, and what to open so that the reason is seen. */
export interface Found {
  nodes: PlaceNode[];
  open: Set<string>;
  servers: number;
  countries: number;
}

function passes(node: PlaceNode, filters: Filters): boolean {
  if (filters.onlineOnly && !node.usable) return false;
  return filters.features.every((feature) => node.features.includes(feature));
}

const none: readonly string[] = [];

/** Which of them the haystack lacks. Makes no list for one word: it is asked for each of ten thousand servers at each letter. */
function notIn(hay: string, needles: readonly string[]): readonly string[] {
  const [only] = needles;
  if (needles.length === 1 && only !== undefined) return hay.includes(only) ? none : needles;
  return needles.length === 0 ? none : needles.filter((needle) => !hay.includes(needle));
}

/** Rows that a search opens by itself. More would be scrolled by, not read; what is further down stays closed, with its count. */
const mostOpened = 200;

/** The nodes that have all words (in themselves or above) and pass the filters. Nodes that match whole stay closed. */
export function search(nodes: readonly PlaceNode[], words: readonly string[], filters: Filters): Found {
  const open = new Set<string>();
  const filtering = filters.onlineOnly || filters.features.length > 0;
  let left = mostOpened;

  /** Opens a place if there is room for what is below it. */
  const opens = (node: PlaceNode): boolean => {
    if (left <= 0) return false;
    left -= node.children.length;
    open.add(node.key);
    return true;
  };

  const visitGroup = (node: PlaceNode, missing: readonly string[]): PlaceNode | null => {
    // Nothing below can change the answer, so the subtree stays as it is.
    if (missing.length === 0 && !filtering) return node;
    // A word that is below each server keeps them all; there is no room left to open any of them.
    const [only] = missing;
    if (left <= 0 && !filtering && missing.length === 1 && only !== undefined && node.shared.includes(only))
      return node;
    // Before those below it: what is opened inside a closed place is not seen.
    const opened = missing.length > 0 && opens(node);
    const children = node.children.map((child) => visit(child, missing)).filter((child) => child !== null);
    if (children.length === 0) {
      if (opened) {
        open.delete(node.key);
        left += node.children.length;
      }
      return null;
    }
    if (children.length === node.children.length && children.every((child, n) => child === node.children[n]))
      return node;
    // The summary is of what is left: a filtered count that counts hidden servers would be wrong.
    return { ...node, children, ...summary(children) };
  };

  const visit = (node: PlaceNode, missing: readonly string[]): PlaceNode | null => {
    const wanted = notIn(node.hay, missing);
    // Most of a tree is passed over here: a word that is neither in it nor below it.
    if (wanted.length > 0 && wanted.some((needle) => !node.below.includes(needle))) return null;
    if (node.kind === 'country' || node.kind === 'city') return visitGroup(node, wanted);
    if (filtering && !passes(node, filters)) return null;
    if (wanted.length === 0) return node;
    // An exit matches together with its server, which then opens to show it. One word that is below is in one of them.
    const matches = (exit: PlaceNode) => notIn(exit.hay, wanted).length === 0;
    if (wanted.length > 1 && !node.children.some(matches)) return null;
    return opens(node) ? { ...node, children: node.children.filter(matches) } : node;
  };

  const needles = words.map(needleOf);
  const result = nodes.map((node) => visit(node, needles)).filter((node) => node !== null);
  const countries = result.filter((node) => node.kind === 'country');
  const [only] = countries;
  if (words.length > 0 && countries.length === 1 && only) open.add(only.key);
  return {
    nodes: result,
    open,
    servers: result.reduce((sum, node) => sum + node.servers, 0),
    countries: countries.length
  };
}

/** A row of the tree as it is shown. */
export interface Row {
  /** Unique among rows: a place can stand in a list twice, on its own and below its country. */
  id: string;
  node: PlaceNode;
  level: number;
  position: number;
  siblings: number;
  /** Null when there is nothing to open. */
  expanded: boolean | null;
  /** Row above it in the tree. */
  parent: number;
}

/** The rows of a tree: depth first, only what is open. */
export function rowsOf(nodes: readonly PlaceNode[], isOpen: (key: string) => boolean): Row[] {
  const rows: Row[] = [];
  const visit = (list: readonly PlaceNode[], level: number, parent: number, path: string) => {
    list.forEach((node, n) => {
      const id = path ? `${path} ${node.key}` : node.key;
      const expanded = node.children.length > 0 ? isOpen(node.key) : null;
      rows.push({ id, node, level, position: n + 1, siblings: list.length, expanded, parent });
      if (expanded) visit(node.children, level + 1, rows.length - 1, id);
    });
  };
  visit(nodes, 1, -1, '');
  return rows;
}

/** All features in a list, most common first, without IPv6, which has a switch of its own; bounded. */
export function featuresOf(nodes: readonly PlaceNode[]): string[] {
  const counts = new Map<string, number>();
  const visit = (node: PlaceNode): void => {
    if (node.kind === 'server') {
      for (const feature of node.features.slice(0, 16)) {
        if (feature !== 'ipv6') counts.set(feature, (counts.get(feature) ?? 0) + 1);
      }
    } else node.children.forEach(visit);
  };
  nodes.forEach(visit);
  return [...counts.entries()]
    .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
    .slice(0, 12)
    .map(([feature]) => feature);
}
