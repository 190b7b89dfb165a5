// Included before every mutated source: which mutation is chosen.
#pragma once

namespace stemfabric::test {

inline constexpr int kNoMutation = -1;
extern int chosen_mutation;  // its place in the table
void mutation_is_reached();

inline bool mutation_is(int index) {
  if (index != chosen_mutation) {
    return false;
  }
  mutation_is_reached();
  return true;
}

}  // namespace stemfabric::test

#define SF_MUTATION(index) ::stemfabric::test::mutation_is(index)
