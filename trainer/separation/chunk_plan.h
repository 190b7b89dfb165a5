// How a signal of T frames is cut into chunks that a model takes, and how much each chunk counts
// where they overlap.
#pragma once

#include <cstdint>

namespace stemfabric {

class ChunkPlan {
 public:
  // Chunks of up to `chunk_frames`, about `num_overlap` of them over each frame; all at least 1.
  ChunkPlan(int64_t frames, int64_t chunk_frames, int64_t num_overlap);

  int64_t frames() const { return frames_; }
  int64_t chunk_frames() const { return chunk_; }  // of every chunk: all of T if that is less
  // Frames at an inner border of a chunk that do not count: a model knows least about them.
  int64_t margin() const { return margin_; }
  int64_t chunks() const { return chunks_; }
  int64_t first_frame(int64_t chunk) const;
  // The frames before this one are complete with this chunk.
  int64_t complete_after(int64_t chunk) const;
  // Of frame i of a chunk: 0 in the margins, then growing by 1 from frame to frame towards the
  // middle; the ends of the signal are no borders. The sum over the chunks of a frame is above 0.
  double weight(int64_t chunk, int64_t i) const;

 private:
  int64_t frames_, chunk_, margin_, stride_, chunks_;
};

}  // namespace stemfabric
