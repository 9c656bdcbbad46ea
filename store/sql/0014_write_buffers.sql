-- A wide part is written through a buffer for each stream of each column, a MiB unless it adapts: with these
-- tables' columns a merge of some ten thousand rows takes 150 to 220 MB without, and as much as its data with it.
ALTER TABLE events MODIFY SETTING min_columns_to_activate_adaptive_write_buffer = 1;

ALTER TABLE seals MODIFY SETTING min_columns_to_activate_adaptive_write_buffer = 1;

ALTER TABLE snapshots MODIFY SETTING min_columns_to_activate_adaptive_write_buffer = 1;
