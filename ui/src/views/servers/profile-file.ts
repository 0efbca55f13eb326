// What the window checks about a profile file before the helper reads it, and the words for what the helper finds. Pure, and never
// with the file's text.
import type { Problem, ProfileRemark } from '../../bridge/types';
import { lookup } from '../../text/codes';
import { m } from '../../text/messages';

/** The helper takes no larger one. */
export const maxProfileBytes = 64 * 1024;
const longestName = 32;

/** 1 to 32 of letters, digits, space, `_`, `.` and `-`; begins with a letter or digit; ends with neither space nor dot. */
export function isProfileName(name: string): boolean {
  return name.length <= longestName && /^[A-Za-z0-9](?:[A-Za-z0-9 _.-]*[A-Za-z0-9_-])?$/.test(name);
}

/** A valid name out of a file name, as close to it as the rules allow. */
export function nameFromFile(fileName: string): string {
  const base = fileName.replace(/^.*[\\/]/, '').replace(/\.(conf|txt)$/i, '');
  const plain = base
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .replace(/[^A-Za-z0-9 _.-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, longestName)
    .replace(/[ .-]+$/, '');
  return plain || 'profile';
}

/** The line that is wrong, and what is wrong there; in the helper's words when its code is new. */
export function lineOf(problem: Problem): { line: number; words: string; known: boolean } | null {
  const fault = problem.fault;
  if (!fault) return null;
  const [what, todo] = [lookup(`profiles_fault_${fault.code}`), lookup(`profiles_do_${fault.code}`)];
  const words = what && todo ? `${what} ${todo}` : `${fault.message} ${fault.action}`;
  return { line: fault.line, words, known: Boolean(what && todo) };
}

/** A remark about an imported profile, with its line; in the helper's words when its code is new. */
export function remarkWords(remark: ProfileRemark): { words: string; known: boolean } {
  const own = lookup(`profiles_remark_${remark.code}`);
  const words = own ?? remark.message;
  return {
    words: remark.line ? m.servers_profile_remark_line({ line: remark.line, words }) : words,
    known: Boolean(own)
  };
}

/** The file's text; null when it is not UTF-8. The caller hands it on and keeps nothing. */
export async function textOf(file: Blob): Promise<string | null> {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await bytesOf(file));
  } catch {
    return null;
  }
}

function bytesOf(file: Blob): Promise<ArrayBuffer> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as ArrayBuffer);
    reader.onerror = () => reject(new Error('unreadable'));
    reader.readAsArrayBuffer(file);
  });
}
