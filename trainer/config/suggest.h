// "did you mean '…'?": the known word nearest to a mistyped one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

// Insertions, deletions, substitutions and swaps of neighbours between two words (optimal string
// alignment distance), not counting upper and lower case or '-' and '_' as different.
int edit_distance(std::string_view a, std::string_view b);

// The candidate with the smallest distance if it is near enough to be a likely typing error (at
// most a third of the word's length, at least one edit); empty if none is. Ties: the first.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean 'x'?" or nothing: the tail of an error message.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

std::string comma_list(const std::vector<std::string>& words);  // "a, b, c"

}  // namespace stemfabric
