// What libraries do not release when they refuse a damaged file, for the leak checker.
#ifdef __SANITIZE_ADDRESS__
extern "C" const char* __lsan_default_suppressions();  // called by name by the leak checker
extern "C" const char* __lsan_default_suppressions() {
  return "leak:H5FL_\nleak:libhdf5\n"  // HDF5 1.10: buffers of its free lists
         "leak:vorbis_info_init\n";    // libsndfile 1.2.0: the header of an Ogg file
}
#endif
