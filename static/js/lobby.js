// The lobby: what runs there, in this order.
import './times.js';
import './unread.js';
