// Numbers, times and places in the language of the window.
import { language } from './language.svelte';

/** Bytes per second or bytes, with a binary-free unit that people know. */
export function bytes(value: number): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
  let unit = 0;
  let rest = Number.isFinite(value) && value > 0 ? value : 0;
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || rest >= 100 ? 0 : 1;
  return new Intl.NumberFormat(language(), {
    style: 'unit',
    unit: units[unit] ?? 'byte',
    unitDisplay: 'short',
    minimumFractionDigits: digits,
    maximumFractionDigits: digits
  }).format(rest);
}

/** A rate in bits per second, as internet connections are sold. */
export function bitrate(bytesPerSecond: number): string {
  const units = ['kilobit', 'megabit', 'gigabit'];
  let unit = 0;
  let rest = Math.max(0, bytesPerSecond * 8) / 1000;
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return new Intl.NumberFormat(language(), {
    style: 'unit',
    unit: `${units[unit]}-per-second`,
    unitDisplay: 'short',
    maximumFractionDigits: rest >= 100 ? 0 : 1
  }).format(rest);
}

/** A duration as `1:02:03`; digits only, so that it can tick without a screen reader caring. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor((whole % 3600) / 60))}:${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

const countries = new Map<string, string>();

function nameOf(code: string): string {
  try {
    return new Intl.DisplayNames([language()], { type: 'region', fallback: 'none' }).of(code) ?? '';
  } catch {
    return '';
  }
}

/** A country's name in the language of the window; the code when it is unknown. Remembered: a list asks for each exit of each server. */
export function country(code: string, fallback = ''): string {
  if (!/^[a-z]{2}$/i.test(code)) return fallback || code;
  const key = `${language()} ${code.toUpperCase()}`;
  let name = countries.get(key);
  if (name === undefined) {
    name = nameOf(code.toUpperCase());
    countries.set(key, name);
  }
  return name || fallback || code;
}

/** A moment, for people. */
export function moment(unixSeconds: number): string {
  return new Intl.DateTimeFormat(language(), { dateStyle: 'medium', timeStyle: 'short' }).format(unixSeconds * 1000);
}

/** A date that the provider wrote in RFC 3339; the text itself when it is none. */
export function date(text: string): string {
  const at = Date.parse(text);
  return Number.isNaN(at) ? text : new Intl.DateTimeFormat(language(), { dateStyle: 'medium' }).format(at);
}

const wholeNumbers = new Map<string, Intl.NumberFormat>();

/** A whole number. Lists are full of them, and the format is slow to make. */
export function count(value: number): string {
  const locale = language();
  let format = wholeNumbers.get(locale);
  if (!format) {
    format = new Intl.NumberFormat(locale);
    wholeNumbers.set(locale, format);
  }
  return format.format(value);
}

/** A time of day with seconds. */
export function clockTime(unixMs: number): string {
  return new Intl.DateTimeFormat(language(), { timeStyle: 'medium' }).format(unixMs);
}

/** A foreign name for use inside a sentence of ours, whose direction it must not turn around. */
export function isolated(name: string): string {
  return `\u2068${name}\u2069`;
}
