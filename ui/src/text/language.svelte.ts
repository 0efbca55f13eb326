// Which language the window speaks, and how texts follow when it changes without a reload.
import { baseLocale, isLocale, locales, overwriteGetLocale, type Locale } from '../paraglide/runtime';

const rightToLeft: readonly string[] = ['ar'];
let spoken = $state<Locale>(baseLocale);

// Reading a rune makes every text that calls a message follow the language.
overwriteGetLocale(() => spoken);

/** The languages, each in its own words. */
export const languages: readonly { code: Locale; name: string }[] = locales.map((code) => ({
  code,
  name: new Intl.DisplayNames([code], { type: 'language' }).of(code) ?? code
}));

/** Speaks a language, or the system's when none is named; returns the one that was chosen. */
export function speakLanguage(wanted: string | null): Locale {
  const asked = wanted ? [wanted] : [...navigator.languages];
  // Bokmål stands for Norwegian as a whole.
  const known = asked
    .map((tag) => tag.toLowerCase().split('-')[0] ?? '')
    .map((tag) => (tag === 'no' || tag === 'nn' ? 'nb' : tag));
  spoken = known.find(isLocale) ?? baseLocale;
  return spoken;
}

/** The language spoken at this moment. */
export function language(): Locale {
  return spoken;
}

/** Writing direction of a language. */
export function directionOf(locale: string): 'ltr' | 'rtl' {
  return rightToLeft.includes(locale) ? 'rtl' : 'ltr';
}
