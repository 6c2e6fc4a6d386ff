"""Wrong answers to the labs: what students believe who have not understood a thing yet."""
