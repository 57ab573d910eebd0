// Presence and typing: shows who is here, and for a few seconds who is typing.
import { attempt, log, name as own } from './page.js';

function showPresence() {
  const here = document.getElementById('here');
  log?.addEventListener('presence', (event) => {
    if (here) here.textContent = JSON.parse(event.detail.data).here;
  });
}

function showTyping() {
  const line = document.getElementById('typing');
  if (!log || !line) return;
  const timers = new Map();
  const show = () => {
    const names = Array.from(timers.keys());
    line.textContent = ['', `${names[0]} is typing…`, `${names[0]} and ${names[1]} are typing…`][names.length]
      ?? 'Several people are typing…';
  };
  const stop = (name) => {
    clearTimeout(timers.get(name));
    if (timers.delete(name)) show();
  };
  log.addEventListener('typing', (event) => {
    const { names, secs } = JSON.parse(event.detail.data);
    for (const name of names) {
      if (name === own) continue;
      clearTimeout(timers.get(name));
      timers.set(name, setTimeout(stop, secs * 1000, name));
    }
    show();
  });
  log.addEventListener('parlor:came', ({ target }) => stop(target.querySelector('.author')?.textContent));
}

attempt(showPresence, showTyping);
