// A room's earlier messages: what runs there, in this order.
import './log.js';
import './times.js';
