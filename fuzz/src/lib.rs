//! Bodies of the fuzz targets, as ordinary functions.
