// Which addresses can be resolvers, by the helper's own rule, so that a typing mistake is told before it is sent. Pure.

export type AddressFault =
  | 'not_an_address'
  | 'loopback'
  | 'unspecified'
  | 'multicast'
  | 'broadcast'
  | 'link_local'
  | 'reserved'
  | 'embedded_v4'
  | 'twice'
  | 'too_many'
  | 'none';

export const mostResolvers = 10;

/** The four bytes of a dotted quad; null when it is none. No leading zeros: some programs read them as octal. */
export function ipv4Bytes(text: string): number[] | null {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part))) return null;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : null;
}

/** The eight groups of an IPv6 address; null when it is none. Zones are not addresses of a resolver. */
export function ipv6Groups(text: string): number[] | null {
  if (!text.includes(':') || text.length > 45) return null;
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const groups = (half: string, last: boolean): number[] | null => {
    if (half === '') return [];
    const out: number[] = [];
    const parts = half.split(':');
    for (const [n, part] of parts.entries()) {
      if (part.includes('.') && last && n === parts.length - 1) {
        const quad = ipv4Bytes(part);
        if (!quad) return null;
        const [a = 0, b = 0, c = 0, d = 0] = quad;
        out.push(a * 256 + b, c * 256 + d);
      } else if (/^[0-9a-f]{1,4}$/i.test(part)) out.push(Number.parseInt(part, 16));
      else return null;
    }
    return out;
  };
  const [left, right] = halves;
  if (right === undefined) {
    const all = groups(left ?? '', true);
    return all?.length === 8 ? all : null;
  }
  const start = groups(left ?? '', false);
  const end = groups(right, true);
  if (!start || !end || start.length + end.length > 7) return null;
  return [...start, ...Array.from({ length: 8 - start.length - end.length }, () => 0), ...end];
}

function faultOfV4([a = 0, b = 0, c = 0, d = 0]: number[]): AddressFault | null {
  if (a === 127) return 'loopback';
  if (a + b + c + d === 0) return 'unspecified';
  if (a === 255 && b === 255 && c === 255 && d === 255) return 'broadcast';
  if (a >= 224 && a <= 239) return 'multicast';
  if (a === 169 && b === 254) return 'link_local';
  if (a === 0 || a >= 240) return 'reserved';
  return null;
}

function faultOfV6(groups: number[]): AddressFault | null {
  const [first = 0] = groups;
  const zero = (count: number) => groups.slice(0, count).every((group) => group === 0);
  if (zero(7) && groups[7] === 1) return 'loopback';
  if (zero(8)) return 'unspecified';
  if (zero(5) && groups[5] === 0xffff) return 'embedded_v4';
  if (first >= 0xff00) return 'multicast';
  if (first >= 0xfe80 && first <= 0xfebf) return 'link_local';
  return null;
}

/** Why an address cannot be a resolver; null when it can, as far as the window knows. */
export function addressFault(text: string): AddressFault | null {
  const quad = ipv4Bytes(text);
  if (quad) return faultOfV4(quad);
  const groups = ipv6Groups(text);
  return groups ? faultOfV6(groups) : 'not_an_address';
}

export interface Resolvers {
  addresses: string[];
  /** The first thing that is wrong, and with which word. */
  fault: { fault: AddressFault; address: string } | null;
}

/** A list as people type it: with commas, spaces or line breaks between. */
export function resolversOf(text: string): Resolvers {
  const addresses = text
    .slice(0, 2000)
    .split(/[\s,;]+/)
    .filter(Boolean);
  if (addresses.length === 0) return { addresses, fault: { fault: 'none', address: '' } };
  if (addresses.length > mostResolvers) return { addresses, fault: { fault: 'too_many', address: '' } };
  const seen = new Set<string>();
  for (const address of addresses) {
    const fault = addressFault(address);
    if (fault) return { addresses, fault: { fault, address } };
    // Two spellings of one address are one address.
    const canonical = (ipv6Groups(address) ?? [address.toLowerCase()]).join(':');
    if (seen.has(canonical)) return { addresses, fault: { fault: 'twice', address } };
    seen.add(canonical);
  }
  return { addresses, fault: null };
}
