// A room's page: what runs there, in this order.
import './log.js';
import './stream.js';
import './composer.js';
import './names.js';
import './times.js';
import './unread.js';
import './presence.js';
import './settings.js';
import './older.js';
import './actions.js';
import './share.js';
import './keys.js';
