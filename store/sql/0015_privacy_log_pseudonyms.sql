-- Earlier versions noted whom somebody asked for as it was asked: an address or a name, which outlived its
-- forgetting. The pseudonym of it cannot be worked out here; that somebody was asked for stays.
ALTER TABLE privacy_log
UPDATE pseudonyms = arrayMap(p -> if(match(p, '^p_[a-z2-7]{26}$'), p, '[hidden]'), pseudonyms)
WHERE arrayExists(p -> NOT match(p, '^p_[a-z2-7]{26}$'), pseudonyms)
SETTINGS mutations_sync = 2;
