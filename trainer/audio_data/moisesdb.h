// MoisesDB: a folder per track (named by an id) with data.json and a folder per stem, which holds
// any number of recordings. Source of the structure: github.com/moises-ai/moises-db.
#pragma once

#include <vector>

#include "trainer/audio_data/folder_listing.h"
#include "trainer/audio_data/track_layout.h"

namespace stemfabric {

// The sources are the folders in a track's folder; a folder without audio is left out. What
// data.json lists must be there (InputError), as a missing recording would change the mixture
// unnoticed.
std::vector<TrackFiles> find_moisesdb_tracks(const FolderListing& root);

}  // namespace stemfabric
