// First import of the page: WebKitGTK reports the language "C" under LANG=C, and every Intl constructor that is given it
// throws. Libraries ask at module level, so a bad language must be replaced before they load.
try {
  Intl.getCanonicalLocales(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en-US', configurable: true });
  Object.defineProperty(navigator, 'languages', { value: ['en-US'], configurable: true });
}
export {};
