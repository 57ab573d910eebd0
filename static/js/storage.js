// The browser's own memory, which may be missing, full or locked: then nothing is kept, and nothing fails.

/** The names of everything in it. */
export function keys() {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}

export function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keeps a text, or forgets it if there is none. Says whether that was done. */
export function keep(key, value) {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
    return true;
  } catch {
    return false;
  }
}
