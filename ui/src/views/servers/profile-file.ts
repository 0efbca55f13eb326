// What the window checks about a profile file before the helper reads it. Pure, and never with the file's text.
import type { Problem } from '../../bridge/types';

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

/** The line that the helper names in its detail, and the rest of the sentence. */
export function lineOf(problem: Problem): { line: number; words: string } | null {
  if (problem.code !== 'profile_invalid') return null;
  const match = /^line (\d{1,6}): (.*)$/s.exec(problem.detail ?? '');
  return match ? { line: Number(match[1]), words: match[2] ?? '' } : null;
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
