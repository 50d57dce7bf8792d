"""Report of a study: from store and ledger to tables, figures and one HTML page."""
