#include "trainer/audio_data/track_layout.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/check.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using testing::AllOf;
using testing::HasSubstr;

class Layout : public testing::Test {
 protected:
  // Files that are only listed, never decoded.
  void touch(std::initializer_list<const char*> files) const {
    for (const char* file : files) {
      fs::create_directories((dir_ / file).parent_path());
      test::put_file(dir_ / file, "");
    }
  }
  // "one[drums=one/drums.wav vocals=one/vocals.wav|one/mixture.wav] two…", splits as ":t", ":v",
  // ":e".
  std::string found(TrackLayout layout = TrackLayout::kAuto, const char* root = "") const {
    const AudioRoot result = find_audio_tracks(dir_ / root, layout);
    std::string text(track_layout_name(result.layout));
    for (const TrackFiles& track : result.tracks) {
      text += " ";
      text += track.id;
      text += track.split == TrackSplit::kTrain        ? ":t"
              : track.split == TrackSplit::kValidation ? ":v"
              : track.split == TrackSplit::kTest       ? ":e"
                                                       : "";
      text += "[";
      for (const AudioSource& source : track.sources) {
        text += source.name;
        for (const fs::path& file : source.files) {
          text += "=";
          text += file.lexically_relative(dir_.path()).string();
        }
        text += " ";
      }
      if (!track.mixture.empty()) {
        text += "|";
        text += track.mixture.filename().string();
      }
      text += "]";
    }
    return text;
  }
  std::string refusal(TrackLayout layout = TrackLayout::kAuto, const char* root = "") const {
    try {
      return found(layout, root);
    } catch (const InputError& error) {
      return error.what();
    }
  }

  TempDir dir_;
};

TEST_F(Layout, FolderPerTrack) {
  touch({"b/vocals.wav", "b/drums.flac", "b/mixture.wav", "b/notes.txt", "a/bass.WAV",
         "a/accompaniment.wav", ".hidden/vocals.wav", "c/readme.md", "list.txt"});
  EXPECT_EQ(found(),
            "tracks a[bass=a/bass.WAV ] b[drums=b/drums.flac vocals=b/vocals.wav |mixture.wav]");
}

TEST_F(Layout, FolderPerStem) {
  touch({"vocals/one.wav", "vocals/two.wav", "drums/one.wav", "mix/one.wav"});
  EXPECT_EQ(found(),
            "stems one[drums=drums/one.wav vocals=vocals/one.wav |one.wav] "
            "two[vocals=vocals/two.wav ]");
}

TEST_F(Layout, OwnNamesNeedTheLayout) {
  touch({"x/aa.wav", "x/bb.wav", "y/aa.wav"});
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("shows no layout"), HasSubstr("3 audio files, such as y/aa.wav"),
                    HasSubstr("--layout tracks")));
  EXPECT_EQ(found(TrackLayout::kTracks), "tracks x[aa=x/aa.wav bb=x/bb.wav ] y[aa=y/aa.wav ]");
  EXPECT_EQ(found(TrackLayout::kStems), "stems aa[x=x/aa.wav y=y/aa.wav ] bb[x=x/bb.wav ]");
}

TEST_F(Layout, MusdbWithItsValidationTracks) {
  for (const char* track :
       {"train/Leaf - Summerghost", "train/A Classic - Education", "test/Al James - Schoolboy"}) {
    for (const char* file : {"mixture", "vocals", "drums", "bass", "other"}) {
      touch({fmt::format("{}/{}.wav", track, file).c_str()});
    }
  }
  const std::string text = found();
  EXPECT_THAT(text,
              AllOf(HasSubstr("musdb18 A Classic - Education:t["),
                    HasSubstr(" Leaf - Summerghost:v["), HasSubstr(" Al James - Schoolboy:e[")));
  EXPECT_EQ(found(TrackLayout::kMusdb18), text);
  EXPECT_TRUE(is_musdb_validation_track("ANiMAL - Rockshow"));
  EXPECT_FALSE(is_musdb_validation_track("ANiMAL"));
}

TEST_F(Layout, SplitFoldersOfAnyLayout) {
  touch({"train/one/vocals.wav", "valid/two/vocals.wav", "test/three/vocals.wav"});
  EXPECT_EQ(found(),
            "tracks one:t[vocals=train/one/vocals.wav ] three:e[vocals=test/three/vocals.wav ] "
            "two:v[vocals=valid/two/vocals.wav ]");
}

TEST_F(Layout, TrainFolderAloneIsSplitByHash) {
  touch({"train/one/vocals.wav", "train/two/vocals.wav", "test/three/vocals.wav"});
  EXPECT_EQ(found(),
            "tracks one[vocals=train/one/vocals.wav ] three:e[vocals=test/three/vocals.wav ] "
            "two[vocals=train/two/vocals.wav ]");
}

TEST_F(Layout, MoisesdbSumsRecordings) {
  touch({"id1/vocals/b.wav", "id1/vocals/a.wav", "id1/piano/c.wav", "id1/empty/x.txt",
         "id2/drums/d.wav"});
  test::put_file(dir_ / "id1/data.json",
                 R"({"stems": [{"stemName": "vocals", "tracks": [{"id": "a"}, {"id": "b"}]}]})");
  EXPECT_EQ(found(),
            "moisesdb id1[piano=id1/piano/c.wav vocals=id1/vocals/a.wav=id1/vocals/b.wav ] "
            "id2[drums=id2/drums/d.wav ]");
  test::put_file(dir_ / "id1/data.json",
                 R"({"stems": [{"stemName": "vocals", "tracks": [{"id": "z"}]}]})");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("data.json: lists a recording z of vocals"),
                               HasSubstr("not in the folder")));
  test::put_file(dir_ / "id1/data.json", R"({"stems": 3})");
  EXPECT_THAT(refusal(), HasSubstr("`stems` is no list"));
}

TEST_F(Layout, Table) {
  touch({"a.wav", "sub/b.wav"});
  test::put_file(dir_ / "tracks.csv",
                 "track,split,vocals,\"back, vocals\",mixture\n"
                 "one,validation,a.wav,,sub/b.wav\n"
                 "two,,/abs/x.wav,sub/b.wav,\n");
  const std::string text = found();
  EXPECT_THAT(text, AllOf(HasSubstr("csv one:v[vocals=a.wav |b.wav]"),
                          HasSubstr("back, vocals=sub/b.wav")));
  EXPECT_EQ(found(TrackLayout::kAuto, "tracks.csv"), text);
  const auto refused = [&](const char* table) {
    test::put_file(dir_ / "tracks.csv", table);
    return refusal(TrackLayout::kCsv);
  };
  EXPECT_THAT(refused(""), HasSubstr("is empty"));
  EXPECT_THAT(refused("name,vocals\nx,a.wav\n"), HasSubstr("line 1: the first line must name"));
  EXPECT_THAT(refused("track,vocals,vocals\n"), HasSubstr("each once"));
  EXPECT_THAT(refused("track,vocals\nx,a.wav\n\ny\n"),
              HasSubstr("line 4: has 1 fields, the first line 2"));
  EXPECT_THAT(refused("track,split,vocals\nx,dev,a.wav\n"), HasSubstr("line 2: split 'dev'"));
  EXPECT_THAT(refused("track,vocals\nx,a.wav\nx,sub/b.wav\n"),
              HasSubstr("two tracks of the name 'x'"));
  EXPECT_THAT(refused("track,vocals\na\x01"
                      "b,a.wav\n"),
              HasSubstr("the name 'a?b' of a track"));
}

TEST_F(Layout, WhatIsNoData) {
  EXPECT_THAT(refusal(TrackLayout::kAuto, "missing"), HasSubstr("no such folder"));
  EXPECT_THAT(refusal(), HasSubstr("it holds 0 folders and 0 audio files"));
  EXPECT_THAT(refusal(TrackLayout::kTracks), HasSubstr("holds no track with an audio file"));
  touch({"loose.wav", "x/readme.txt"});
  EXPECT_THAT(refusal(), HasSubstr("1 folders (x) and 1 audio files"));
  EXPECT_THAT(refusal(TrackLayout::kMusdb18), HasSubstr("has no folder train"));
  test::put_file(dir_ / "table.csv", "");
  EXPECT_THAT(refusal(TrackLayout::kTracks, "table.csv"),
              HasSubstr("--layout tracks wants a folder"));
}

TEST_F(Layout, OneTrackOrFileIsPointedOut) {
  touch({"song/vocals.wav", "song/drums.wav"});
  EXPECT_THAT(
      refusal(TrackLayout::kAuto, "song"),
      HasSubstr(
          "song: holds the files of one track (drums.wav, vocals.wav); give the folder above"));
  EXPECT_THAT(refusal(TrackLayout::kAuto, "song/vocals.wav"),
              HasSubstr("vocals.wav: is one audio file"));
}

TEST_F(Layout, TwiceTheSameIsRefused) {
  touch({"one/vocals.wav", "one/vocals.flac"});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("vocals.wav"), HasSubstr("has vocals already"),
                               HasSubstr("keep one")));
  touch({"train/x/vocals.wav", "test/x/vocals.wav"});
  fs::remove_all(dir_ / "one");
  EXPECT_THAT(refusal(), HasSubstr("two tracks of the name 'x'"));
}

TEST(LayoutNames, AreSuggested) {
  for (const std::string& name : track_layout_names()) {
    EXPECT_EQ(track_layout_name(track_layout(name)), name);
  }
  try {
    track_layout("track");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean 'tracks'?"));
  }
}

}  // namespace
}  // namespace stemfabric
