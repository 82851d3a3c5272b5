"""Numbers that users of catalogs ask for, measured after a fit on draws of its posterior.

`measure.with_measurements` adds to a posterior what the groups of `MeasureOptions` name. None of it enters the fit.
"""
