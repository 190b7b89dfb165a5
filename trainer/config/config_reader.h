// Fills a configuration from a document tree and records where each value came from.
#pragma once

#include <map>
#include <string>

#include "trainer/config/document.h"
#include "trainer/config/fields.h"

namespace stemfabric {

enum class UnknownKeys : uint8_t { kRefuse, kIgnore };

// Sets every field of `list` that the document names; others keep their values. Throws ConfigError
// "origin: key: what is wrong"; some fields may then be set already.
void apply_document(const DocumentNode& document, const FieldList& list, UnknownKeys unknown,
                    std::map<std::string, std::string>& origins);

}  // namespace stemfabric
