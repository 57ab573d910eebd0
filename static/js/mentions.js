// The list of mentions: what runs there, in this order.
import './times.js';
