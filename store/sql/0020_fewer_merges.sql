-- A part is merged with others once together they have so many times its size; each row is written again as
-- often as that takes from a part of a second to a part of a month. With the default, 5, merging costs more than
-- anything else that happens to an event. Where there are many parts the engine lowers it by itself.
ALTER TABLE events MODIFY SETTING merge_selector_base = 20;
