// The window's keys. Pure: says what a key asks for; the shell does it.
import { views, type View } from '../state/route.svelte';

export type KeyWish = { wish: 'view'; view: View } | { wish: 'back' } | { wish: 'search' } | { wish: 'toggle' };

/** What a key press asks for; null when it is not one of the window's keys. */
export function wishOf(event: KeyboardEvent, rightToLeft: boolean): KeyWish | null {
  if (event.defaultPrevented || event.isComposing) return null;
  const command = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
  if (command && event.key === 'Enter') return { wish: 'toggle' };
  if (command && event.key.toLowerCase() === 'k') return { wish: 'search' };
  if (command && /^[1-9]$/.test(event.key)) {
    const view = views[Number(event.key) - 1];
    return view ? { wish: 'view', view } : null;
  }
  const backwards = rightToLeft ? 'ArrowRight' : 'ArrowLeft';
  if (event.altKey && !event.ctrlKey && event.key === backwards) return { wish: 'back' };
  // Escape belongs to a field or a dialog before it belongs to the window.
  if (event.key === 'Escape' && !holdsEscape(event.target)) return { wish: 'back' };
  return null;
}

function holdsEscape(target: EventTarget | null): boolean {
  return (
    target instanceof Element &&
    target.closest('input, select, textarea, dialog, [role="menu"], [role="listbox"]') !== null
  );
}
