-- A hold that comes between the account of what retention removes and its removal keeps rows that were counted:
-- they are taken back, as negative numbers.
ALTER TABLE retention_runs MODIFY COLUMN rows_removed Int64;
ALTER TABLE retention_runs MODIFY COLUMN evaluated_removed Int64;
ALTER TABLE retention_runs ADD COLUMN IF NOT EXISTS holds Array(String)
    COMMENT 'ids of the legal holds whose rows are not in the account';
