-- A merge holds a block of every part that it reads, up to 8,192 rows or 10 MB: of tables with large rows whole parts.
-- Eight parts of seals, 100 MB together, took 165 MB, and 100 with this; snapshots 63 MB, and 35. Smaller granules do
-- the rest (store/embedded.xml): a table keeps those of its own only from when it was made.
ALTER TABLE seals MODIFY SETTING merge_max_block_size_bytes = 1048576;

ALTER TABLE snapshots MODIFY SETTING merge_max_block_size = 1;
