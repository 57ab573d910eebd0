// An empty room says where it is: its whole address, to be copied and sent.
import { attempt, make } from './page.js';

function offer() {
  const link = document.getElementById('address');
  if (!link) return;
  link.textContent = link.href;
  if (!navigator.clipboard) return;
  const copy = make('button', { type: 'button', className: 'quiet', textContent: 'Copy' });
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(link.href);
    copy.textContent = 'Copied';
  });
  link.after(' ', copy);
}

attempt(offer);
