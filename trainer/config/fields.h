// A configuration struct as a flat list: what visit() names, as data. Everything that reads, prints
// or describes configurations walks this list, so that it needs no templates of its own.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "trainer/config/config.h"

namespace stemfabric {

using FieldPointer = std::variant<bool*, int64_t*, double*, std::string*, std::vector<double>*>;

struct Field {
  std::string section;  // "model.attention"; empty at the root
  std::string name;     // "alpha"
  std::string help;
  Constraint constraint;
  FieldPointer value;
  std::string key() const { return section.empty() ? name : section + "." + name; }
};

struct Section {
  std::string key;  // "model.attention"
  std::string help;
};

struct FieldList {
  std::vector<Section> sections;  // each before what it holds; the root is not listed
  std::vector<Field> fields;      // in the order of visit()
};

namespace detail {

struct AnyVisitor {
  template <typename T>
  void operator()(const char*, T&, const char*) {}
  template <typename T>
  void operator()(const char*, T&, const char*, const Constraint&) {}
};
template <typename T>
concept VisitedStruct = requires(T& t, AnyVisitor v) {
  t.visit(v);
};

class FieldLister {
 public:
  FieldLister(FieldList& list, std::string section) : list_(list), section_(std::move(section)) {}

  template <typename T>
  void operator()(const char* name, T& member, const char* help,
                  const Constraint& constraint = {}) {
    Field field{section_, name, help, constraint, {}};
    if constexpr (VisitedStruct<T>) {
      list_.sections.push_back({field.key(), help});
      member.visit(FieldLister(list_, field.key()));
    } else {
      field.value = &member;
      list_.fields.push_back(std::move(field));
    }
  }

 private:
  FieldList& list_;
  std::string section_;
};

}  // namespace detail

// The pointers of the list point into `object`, which must outlive it.
template <detail::VisitedStruct T>
FieldList list_fields(T& object) {
  FieldList list;
  object.visit(detail::FieldLister(list, ""));
  return list;
}

std::string type_name(const Field& field);     // "a whole number", "a list of numbers"
std::string allowed_text(const Field& field);  // "1 to 1024", "one of adam, adamw", or ""

// Texts of a value: YAML reads back exactly what was written.
std::string value_to_yaml(const Field& field);
std::string string_to_yaml(const std::string& text);  // quoted where it must be
std::string double_to_text(double value);  // shortest that reads back the same; always a YAML float

}  // namespace stemfabric
