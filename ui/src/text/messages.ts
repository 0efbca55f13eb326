// The window's texts. Keys and parameters are checked by the compiler; the language by scripts/messages.mjs.
export { m } from '../paraglide/messages';
