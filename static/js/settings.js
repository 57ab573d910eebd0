// The room's name and topic at the top of its page, when somebody changes them.
import { attempt, make, room, user } from './page.js';

async function show() {
  const answer = await fetch(`/rooms/${room}/settings?as=${user}`, { headers: { Accept: 'application/json' } });
  if (!answer.ok) return;
  const { name, topic, archived, posting } = await answer.json();
  // Who may write here is on the page as the server makes it.
  const isReadOnly = document.body.classList.contains('read-only');
  if (archived !== isReadOnly || posting !== 'everybody') return location.reload();
  const title = name ?? room;
  document.querySelector('.title h1 a').textContent = title;
  for (const link of document.querySelectorAll(`.side li[data-room="${room}"] .name`)) link.textContent = title;
  const here = document.getElementById('here');
  here.parentNode.querySelector('.topic')?.remove();
  if (topic) here.after(make('span', { className: 'topic', dir: 'auto', title: topic, textContent: topic }));
  document.dispatchEvent(new CustomEvent('parlor:titled', { detail: `${title} – Parlor` }));
}

attempt(() => {
  document.addEventListener('parlor:came', ({ target }) => {
    if (target.dataset.setting !== undefined) show().catch(console.error);
  });
});
